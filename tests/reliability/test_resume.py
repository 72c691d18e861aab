"""A run that is stopped after a step and continued is the run it would have been."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import FEW, chosen, resume


@pytest.mark.slow
@pytest.mark.parametrize("case", resume.CASES)
def test_resume_after_a_step(tmp_path: Path, case: str) -> None:
    """The trials are spread over the kinds of runs; with more than there are steps, all of each."""
    numbers, place = chosen(resume, FEW), list(resume.CASES).index(case)
    for number in numbers if resume.every() <= FEW else [numbers[place % len(numbers)]]:
        saw = resume.trial(min(number, resume.STEPS), tmp_path / str(number), [case])
        assert saw["kinds"] == 1
