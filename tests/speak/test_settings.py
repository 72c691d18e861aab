from __future__ import annotations

import pytest

from palate.config import ConfigError
from palate.speak.settings import AskSettings, read_settings
from palate.speak.speaker import Manner


def test_words_become_a_manner() -> None:
    found = read_settings(AskSettings, ["temperature=0", "seed=4", "max_new_tokens=9"])
    assert found.manner == Manner(9, 0.0, 50, 4)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("temprature=1", "unknown key 'temprature'; did you mean 'temperature'?"),
        ("seed=-1", "'seed': Input should be greater than or equal to 0"),
        ("temperature=.inf", "finite"),
        ("seed", "write key=value"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"\A[^\n]*\Z") as caught:
        read_settings(AskSettings, [word])
    assert said in str(caught.value)
