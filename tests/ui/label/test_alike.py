"""Sketches of prompts: nearly the same share a key, others do not."""

from __future__ import annotations

from palate.ui.label.alike import KEYS, sketches

LONG = (
    "my parcel with the blue lamp was sent to the wrong house on Monday and nobody at the depot "
    "answers the phone so please tell me how I get it back before my sister has her birthday"
)


def shared(one: str, other: str) -> int:
    first, second = sketches([one, other])
    return len({*first} & {*second})


def test_equal_words_have_equal_keys() -> None:
    assert shared(LONG, LONG.upper().replace(" ", "\n")) == KEYS
    assert shared("hi", "Hi!") == 1
    assert sketches([LONG, "hi"]) == [sketches([LONG])[0], sketches(["hi"])[0]]


def test_nearly_equal_prompts_share_a_key() -> None:
    # 34 words have 32 runs; one other word at the end changes one: J = 31/33 = 0.94, so that all
    # four keys differ with the probability (1 − 0.94³)⁴ = 0.0008.
    assert shared(LONG, LONG.replace("birthday", "party")) > 0


def test_others_share_none() -> None:
    other = "which of these two planets has more moons and why did nobody see them before 1950"
    assert shared(LONG, other) == shared("hi", "no") == shared("hi there", "there hi") == 0


def test_texts_without_words() -> None:
    assert sketches(["", "?!", LONG]) == [(), (), sketches([LONG])[0]]
    assert sketches([]) == []
