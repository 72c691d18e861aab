"""Languages: what is judged, what is left alone, and what settings are refused."""

import sys

import pytest

from palate.curate.language import FEWEST_LETTERS, drop_other_languages, language_judge
from palate.records import Completion, Example, Message, Verdict

TEXTS = {
    "en": "The parcel left our house on Tuesday and should be with you before the weekend.",
    "de": "Das Paket hat unser Haus am Dienstag verlassen und sollte vor dem Wochenende da sein.",
    "fr": "Le colis a quitté notre maison mardi et devrait arriver chez vous avant le week-end.",
    "es": "El paquete salió de nuestra casa el martes y debería llegar antes del fin de semana.",
    "ru": "Посылка покинула наш дом во вторник и должна быть у вас до конца этой недели.",
    "ja": "荷物は火曜日に私たちの家を出ましたので、週末までには届くはずです。ご安心ください。",
}


@pytest.fixture(scope="module")
def judge():
    return language_judge(["en", "de"])


@pytest.mark.parametrize("code", TEXTS)
def test_each_language_is_known(judge, code):
    assert judge(TEXTS[code]) == (None if code in {"en", "de"} else code)


def test_short_texts_are_not_judged(judge):
    letters = "".join(filter(str.isalpha, TEXTS["ru"]))
    assert judge(letters[: FEWEST_LETTERS - 1]) is None
    assert judge(letters[:FEWEST_LETTERS]) == "ru"


def test_a_character_of_chinese_or_japanese_says_as_much_as_three_letters(judge):
    characters = "".join(filter(str.isalpha, TEXTS["ja"]))
    assert judge(characters[: FEWEST_LETTERS // 3 - 1]) is None
    assert judge(characters[: FEWEST_LETTERS // 3]) in {"ja", "zh"}


def test_what_may_well_be_a_wanted_language_is_let_through(judge):
    """The best guess is Nigerian Pidgin, with English next to it."""
    assert judge("Please give me both Visa and MasterCard") is None
    assert language_judge(["de"])("Please give me both Visa and MasterCard") == "pcm"


def test_what_is_no_language_is_let_through(judge):
    assert judge("asdf qwer zxcv asdf qwer zxcv hjkl uiop") is None


def test_code_and_addresses_are_not_judged(judge):
    code = "```python\n" + "for élément dans les_éléments_du_tableau: imprimer(élément)\n" * 5
    assert judge(code) is None
    assert judge(f"{code}```\n{TEXTS['en']}") is None
    assert judge(f"{code}```\n{TEXTS['fr']}") == "fr"
    assert judge("https://exemple.fr/une/très/longue/adresse/de/page/avec/des/mots " * 3) is None
    assert judge("12 + 30 = 42; 7 × 6 = 42. " * 10) is None


def _pair(prompt, chosen, rejected):
    answers = tuple(Completion((Message("assistant", text),)) for text in (chosen, rejected))
    return Example((Message("user", prompt),), answers, verdict=Verdict(0, 1))


def test_prompts_and_answers_to_be_learned_are_judged(judge):
    en, fr = TEXTS["en"], TEXTS["fr"]
    rows = [
        _pair(en, en, "no"),
        _pair(fr, en, "no"),
        _pair(en, fr, "no"),
        _pair(en, en, fr),  # the wrong language may be why it was rejected
        Example((), (Completion((Message("assistant", fr),)),)),
    ]
    rejects = []
    assert drop_other_languages(rows, rejects.append, judge) == [rows[0], rows[3]]
    assert [(r.reason, r.detail) for r in rejects] == [
        ("other-language", "the prompt reads as 'fr'"),
        ("other-language", "an answer reads as 'fr'"),
        ("other-language", "an answer reads as 'fr'"),
    ]


def test_an_unknown_code_is_said():
    with pytest.raises(ValueError, match=r"unknown code 'eng'.*did you mean 'en'"):
        language_judge(["en", "eng"])


def test_without_the_package_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ValueError, match=r'pip install "palate\[data\]"'):
        language_judge(["en"])
