"""Work in a process of its own: one at a time, its result, its failure, its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.conftest import until

from palate.ui.data.jobs import Jobs


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jobs]:
    """Jobs whose command is a script of the tests: `WORD` says what it does."""
    script = tmp_path / "command"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        "word = sys.argv[-1]\n"
        "print('note', file=sys.stderr)\n"
        "print('working on ' + word, file=sys.stderr, flush=True)\n"
        "if word == 'slow': time.sleep(600)\n"
        "if word == 'bad': sys.exit('error: no such thing: name another')\n"
        "if word == 'token': word = os.environ.get('PALATE_UI_TOKEN', 'none')\n"
        "print('not JSON' if word == 'odd' else '{\"word\": \"%s\"}' % word)\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setattr("palate.ui.data.jobs.sys.executable", str(script))
    made = Jobs(600)
    yield made
    made.close()


def ended(jobs: Jobs, key: str) -> str:
    job = jobs.get(key)
    assert job is not None
    until(lambda: job.state != "running", f"the end of {key}")
    return job.state


def test_the_result_is_what_was_printed(jobs: Jobs) -> None:
    job = jobs.start("a", ["fine"], {"of": "x"}, lambda raw: [raw["word"]])
    assert ended(jobs, "a") == "done"
    assert job.result == ["fine"]
    told = job.told()
    assert (told["state"], told["of"], told["why"]) == ("done", "x", "")
    jobs.forget("a")
    assert jobs.get("a") is None


@pytest.mark.parametrize(
    ("word", "why"),
    [("bad", "no such thing: name another"), ("odd", "the command printed no JSON")],
)
def test_a_failure_is_one_line(jobs: Jobs, word: str, why: str) -> None:
    job = jobs.start("a", [word], {})
    assert ended(jobs, "a") == "failed"
    assert job.why == why


def test_one_at_a_time_and_the_same_is_not_started_twice(jobs: Jobs) -> None:
    job = jobs.start("a", ["slow"], {})
    assert jobs.start("a", ["slow"], {}) is job
    with pytest.raises(ValueError, match="one at a time"):
        jobs.start("b", ["fine"], {})
    until(lambda: job.told()["progress"] == "working on slow", "progress")
    jobs.forget("a")
    assert jobs.get("a") is job, "what runs is not forgotten"
    jobs.stop("b")
    assert job.state == "running"
    jobs.stop("a")
    assert job.state == "stopped"
    until(lambda: job.said is None, "the end of the process")
    jobs.start("b", ["fine"], {})
    assert ended(jobs, "b") == "done"


def test_what_takes_too_long_is_ended(jobs: Jobs) -> None:
    hasty = Jobs(0.5)
    job = hasty.start("a", ["slow"], {})
    assert ended(hasty, "a") == "failed"
    assert "longer than 0 seconds" in job.why or "longer than 1 seconds" in job.why


def test_the_end_of_the_site_ends_it(jobs: Jobs) -> None:
    job = jobs.start("a", ["slow"], {})
    jobs.close()
    assert job.state == "stopped"
    assert job.said is None


def test_what_opens_the_site_is_not_told(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_UI_TOKEN", "a-token-for-tests")
    job = jobs.start("a", ["token"], {})
    assert ended(jobs, "a") == "done"
    assert job.result == {"word": "none"}
