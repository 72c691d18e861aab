"""Where personal data stands in a text: by presidio's patterns and ours, without any model.

presidio weighs a pattern by the words before it, for which a text must only be split into words;
so it gets a blank spaCy pipeline and downloads nothing. Telephone, card and bank account numbers
are found here with their own checks, which find more (docs/curation.md has the figures). Names of
people, places and organisations need a model and are not found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine
    from spacy.tokens import Doc

LEAST_SCORE = 0.4
"""presidio's score below which a pattern needs more support from the words around."""
# spaCy and presidio import these if they are there, and need none of them here.
_HEAVY = ("torch", "transformers", "tokenizers", "stanza", "gliner")

_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")
_CARD_NAMED = re.compile(
    r"\b(?:cc|card|credit|debit|visa|master ?card|amex|maestro|discover|diners)\b", re.IGNORECASE
)
_CARD_STARTS = re.compile(r"2131|1800|2[2-7]|3[0-9]|[456]")
_IBAN = re.compile(r"\b([A-Z]{2})\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.IGNORECASE)
# Length by country, as registered under ISO 13616.
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in re.findall(
        r"\S+",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
        "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
        "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
        "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
        "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}
_IBAN_LETTERS = {ord(c): str(i) for i, c in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")}

_NUMBER = re.compile(
    r"(?<![\w#$€£+])(?<![^\W_][./])(?<!\d[,:-])"
    r"(?P<main>(?:\+|00)?(?:\(\+?\d{1,5}\)|\d)(?:[ \u00a0.-]?[ ]?(?:\(\d{1,4}\)|\d)){5,16})"
    r"(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?(?!\w|-\d|[.,:/]\d)",
    re.IGNORECASE,
)
_NOT_A_PHONE = re.compile(
    r"\d{4}[-.]\d{1,2}[-.]\d{1,2}(?:\D.*)?|\d{1,2}[-.]\d{1,2}[-.]\d{4}(?:\D.*)?|"
    r"\d{4}\s?-\s?\d{4}|\d+\.\d+|\d{3}-\d{2}-\d{4}|(?:\d{1,3}\.){3}\d{1,3}"
)
_CALLED = re.compile(
    r"\b(?:(?:tele|cell)?phones?|tel|cell|mobile|call(?:ed|ing)?|dial|ring|fax|whatsapp|sms|"
    r"text me|reach (?:me|us|him|her|them)|contact|hotline|"
    r"telefon|handy|portable|téléphone|teléfono|móvil)\b",
    re.IGNORECASE,
)
_NAMED_AFTER = re.compile(r"[ -]{0,3}\(?(?:office|fax|mobile|cell|home|work)\b", re.IGNORECASE)
_WITHIN = 50  # characters
_REGIONS = re.findall(
    r"[A-Z]{2}",
    "US GB DE FR IN BR IL AU NZ IE AT CH NL BE LU IT ES PT DK SE NO FI PL CZ SK HU RO GR TR MX AR "
    "CL CO PE ZA JP KR CN SG MY PH ID TH VN AE SA EG NG KE UA RU",
)


class Found(NamedTuple):
    """Personal data from `start` up to `end`, of a kind that presidio names."""

    start: int
    end: int
    kind: str
    score: float


Finder = Callable[[str], Iterable[Found]]


def card_numbers(text: str) -> Iterator[Found]:
    """Payment card numbers: 12 to 19 digits, a known beginning, and Luhn's check digit.

    Groups have at most six digits, if there are any. The rare ones of 12 and 13 digits count only
    near a word such as "card": one number in ten has the right check digit.
    """
    for match in _CARD.finditer(text):
        groups = re.split("[ -]", match.group())
        digits = "".join(groups)
        if len(groups) > 1 and max(map(len, groups)) > 6:
            continue
        if len(digits) < 14 and not _CARD_NAMED.search(_before(text, match.start())):
            continue
        if _CARD_STARTS.match(digits) and _luhn(digits) and len(set(digits)) > 1:
            yield Found(*match.span(), "CREDIT_CARD", 1.0)


def _before(text: str, at: int) -> str:
    """The words before a number that may say what it is."""
    return text[max(0, at - _WITHIN) : at]


def _luhn(digits: str) -> bool:
    """Every second digit from the right doubled, digits summed, divisible by 10 (ISO 7812)."""
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0


def ibans(text: str) -> Iterator[Found]:
    """International bank account numbers: a country's length, and ISO 13616's check digits."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper(), 0)
        places = [i for i in range(*match.span()) if text[i].isalnum()][:length]
        end = places[-1] + 1 if places else match.start()
        plain = "".join(text[i] for i in places).upper()
        # The pattern may have run on into the next words, but not into the middle of one.
        if len(plain) == length and not text[end : end + 1].isalnum() and _mod_97(plain):
            yield Found(match.start(), end, "IBAN_CODE", 1.0)


def _mod_97(iban: str) -> bool:
    return int((iban[4:] + iban[:4]).translate(_IBAN_LETTERS)) % 97 == 1


def phone_numbers(text: str) -> Iterator[Found]:
    """Telephone numbers: with a country code, or near a word such as "call", or well formed.

    Well formed is a number with separators that is valid, by phonenumbers, in one of the larger
    countries.
    """
    import phonenumbers

    for match in _NUMBER.finditer(text):
        main = match.group("main").strip()
        digits = re.sub(r"\D", "", main)
        if not 7 <= len(digits) <= 15 or _NOT_A_PHONE.fullmatch(main):
            continue
        if main.startswith(("+", "00", "(+")):
            known = _possible(phonenumbers, main)
        elif _CALLED.search(_before(text, match.start())) or _NAMED_AFTER.match(text, match.end()):
            known = True
        else:
            known = _grouped(main) and _valid_somewhere(phonenumbers, main)
        if known:
            yield Found(*match.span(), "PHONE_NUMBER", 0.7)


def _grouped(main: str) -> bool:
    """Three groups of digits, or one in brackets: two may be a house number and a post code."""
    return "(" in main or len(re.findall(r"\d{2,}", main)) > 2


def _possible(phonenumbers: ModuleType, main: str) -> bool:
    try:
        number = phonenumbers.parse(re.sub("^00", "+", main), None)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_possible_number(number))


def _valid_somewhere(phonenumbers: ModuleType, main: str) -> bool:
    valid = phonenumbers.Leniency.VALID
    return any(
        any(phonenumbers.PhoneNumberMatcher(main, region, leniency=valid)) for region in _REGIONS
    )


def presidio_finder(kinds: Iterable[str]) -> Finder:
    """A function that finds the given kinds by presidio's own patterns.

    Raises `ImportError` where presidio-analyzer is not installed.
    """
    engine = presidio_engine()
    known = set(engine.get_supported_entities("en")) & set(kinds)
    has_owner = _known_domain()

    def find(text: str) -> Iterator[Found]:
        if not known:
            return
        for result in engine.analyze(text, "en", sorted(known), score_threshold=LEAST_SCORE):
            kind, inside = result.entity_type, text[result.start : result.end]
            if kind != "EMAIL_ADDRESS" or has_owner(inside):
                yield Found(result.start, result.end, kind, result.score)

    return find


def presidio_engine() -> AnalyzerEngine:
    """presidio with the recognizers that need no model, on a blank spaCy pipeline."""
    with _light():
        import spacy
        from presidio_analyzer import (
            AnalyzerEngine,
            PatternRecognizer,
            RecognizerRegistry,
        )
        from presidio_analyzer import predefined_recognizers as predefined
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from spacy.language import Language

    @Language.component("palate_lemmas")
    def lemmas(doc: Doc) -> Doc:
        for token in doc:
            token.lemma_ = token.lower_
        return doc

    blank = spacy.blank("en")
    blank.max_length = sys.maxsize
    blank.add_pipe("palate_lemmas")
    words = SpacyNlpEngine()
    words.nlp = {"en": blank}  # type: ignore[assignment] # declared as None until it is loaded
    # presidio's own recognizer of e-mail addresses asks the network for the list of domains.
    email = PatternRecognizer(
        "EMAIL_ADDRESS", patterns=predefined.EmailRecognizer.PATTERNS, context=["email"]
    )
    recognizers = [
        email,
        predefined.IpRecognizer(),
        predefined.UrlRecognizer(),
        predefined.DateRecognizer(),
        predefined.UsSsnRecognizer(),
        predefined.UsItinRecognizer(),
        predefined.CryptoRecognizer(),
        predefined.MacAddressRecognizer(),
    ]
    return AnalyzerEngine(RecognizerRegistry(recognizers), words)


def _known_domain() -> Callable[[str], bool]:
    """Whether an address ends in a public suffix, by the list that tldextract carries."""
    from tldextract import TLDExtract

    extract = TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)
    return lambda address: bool(extract(address.rpartition("@")[2]).suffix)


@contextmanager
def _light() -> Iterator[None]:
    """Imports inside do not see the heavy packages, unless these are imported already."""
    hidden = [name for name in _HEAVY if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: not importable
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
