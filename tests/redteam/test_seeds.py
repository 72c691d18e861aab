from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from palate.config import ConfigError
from palate.redteam.refusal import declines, refuses
from palate.redteam.seeds import load_attacks, load_benign


def test_ours_are_whole() -> None:
    found = load_attacks()
    assert len(found.categories) >= 10
    texts: Counter[str] = Counter()
    for category in found.categories:
        assert len(category.attacks) >= 8
        assert category.escalations
        assert all(len(turns) >= 3 for turns in category.escalations)
        assert all(declines(safe) for safe in category.safe), "a safe answer that is none"
        texts.update([*category.attacks, *(turns[-1] for turns in category.escalations)])
    assert max(texts.values()) == 1
    assert len(load_benign().prompts) >= 100
    assert len({one.prompt for one in load_benign().prompts}) == len(load_benign().prompts)


def test_no_prompt_of_ours_looks_like_a_refusal() -> None:
    assert not [one.prompt for one in load_benign().prompts if refuses(one.prompt)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("categories: [{id: a, safe: [s], atacks: [x]}]", "did you mean 'attacks'"),
        ("categories: [{id: a, safe: [s]}]", "'categories.1.attacks' is missing"),
        ("categorys: []", "did you mean 'categories'"),
        (
            "categories: [{id: a, safe: [s], attacks: [x]}, {id: a, safe: [s], attacks: [x]}]",
            "two categories are called 'a'",
        ),
        ("categories: [", "not valid YAML at line 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_attacks(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
