"""Numbers of telephones, cards and accounts, and what presidio finds without a model."""

import socket
import subprocess
import sys

import pytest

from palate.curate.recognizers import card_numbers, ibans, phone_numbers, presidio_finder


def _found(find, text):
    return [text[one.start : one.end] for one in find(text)]


@pytest.mark.parametrize(
    "number",
    [
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "340000000000009",  # 15 digits
        "30000000000004",  # 14
        "2131 000000 00001",
        "6304 0000 0000 0000",
        "my old card 4222222222222",  # 13
    ],
)
def test_card_numbers(number):
    digits = number.removeprefix("my old card ")
    assert _found(card_numbers, f"Charge {number}, please.") == [digits]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit
        "1111 1111 1111 1117",  # no card begins so
        "0000 0000 0000 0000",
        "44444444444444444444",
        "order 411111111111111100000",
        "4111111111111111.5",
        "x4111111111111111",
        "355909190063-746",
        "The result is 4222222222222",
    ],
)
def test_what_is_no_card_number(text):
    assert _found(card_numbers, text) == []


@pytest.mark.parametrize(
    "number",
    [
        "DE89370400440532013000",
        "GB82 WEST 1234 5698 7654 32",
        "fr1420041010050500013m02606",
        "NO93-8601-1117-947",
    ],
)
def test_ibans(number):
    assert _found(ibans, f"To {number} 2 days from today.") == [number]
    assert _found(ibans, number) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "DE88370400440532013000",  # the check digits
        "DE893704004405320130001",  # too long
        "DE8937040044",
        "XX82WEST12345698765432",
        "AB12 of the 1234 5678 9012 boxes we have",
    ],
)
def test_what_is_no_iban(text):
    assert _found(ibans, text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("I am at +44 20 7946 0958 today", "+44 20 7946 0958"),
        ("+1-984-182-0190", "+1-984-182-0190"),
        ("0049 30 901820", "0049 30 901820"),
        ("(212) 555-0198 is mine", "(212) 555-0198"),
        ("415-555-2671 x 36", "415-555-2671 x 36"),
        ("Please call 28646698 tonight", "28646698"),
        ("my cell: 541-714-1388", "541-714-1388"),
        ("082 490 1693-Office", "082 490 1693"),
        ("Tel. 024 971 50 30.", "024 971 50 30"),
    ],
)
def test_phone_numbers(text, number):
    assert _found(phone_numbers, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "The order 28646698 has not come",
        "It is at 17151 2450 Crown Street",
        "from 1990-2005, and on 2018-02-24 12:45",
        "1,000,000 and 3.14159265 and 12345.678",
        "ZIP 90010-170",
        "call me before 2018-02-24",
        "192.168.100.200",
        "54 + 62 = 116, 3 x 12345678",
        "#5417141388",
        "$541 714 138",
        "4111 1111 1111 1111 1111",
        "doi:10.1053/j.ajkd.2010.06.011",
        "6 9 2 7 1 3 6",
    ],
)
def test_what_is_no_phone_number(text):
    assert _found(phone_numbers, text) == []


@pytest.fixture(scope="module")
def presidio():
    kinds = ["EMAIL_ADDRESS", "IP_ADDRESS", "US_SSN", "US_ITIN", "MAC_ADDRESS", "CRYPTO", "URL"]
    return presidio_finder([*kinds, "DATE_TIME", "SOMETHING_ELSE"])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (
            "write to anna.b+x@mail.example.co.uk now",
            "EMAIL_ADDRESS",
            "anna.b+x@mail.example.co.uk",
        ),
        ("it runs on 84.21.7.130 since May", "IP_ADDRESS", "84.21.7.130"),
        ("at 2001:db8:0:0:0:ff00:42:8329 it is", "IP_ADDRESS", "2001:db8:0:0:0:ff00:42:8329"),
        ("My SSN is 514-69-0360.", "US_SSN", "514-69-0360"),
        ("device 00:1A:2B:3C:4D:5E", "MAC_ADDRESS", "00:1A:2B:3C:4D:5E"),
        ("pay 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("born on 10/23/1951 there", "DATE_TIME", "10/23/1951"),
    ],
)
def test_what_presidio_finds(presidio, text, kind, value):
    found = [(one.kind, text[one.start : one.end]) for one in presidio(text)]
    assert (kind, value) in found


@pytest.mark.parametrize("text", ["see @anna in app.py", "anna@localhost", "a@b.notadomainatall"])
def test_what_is_no_address(presidio, text):
    assert "EMAIL_ADDRESS" not in {one.kind for one in presidio(text)}


def test_words_before_a_weak_pattern_support_it(presidio):
    """Nine digits alone may be anything; after "social security" they are a number of that."""
    assert "US_SSN" not in {one.kind for one in presidio("It cost 514690360 lire.")}
    said = "My social security number is 514690360."
    assert "US_SSN" in {one.kind for one in presidio(said)}


@pytest.mark.slow
def test_a_very_long_text_is_read(presidio):
    text = "word " * 210_000 + "anna@example.org"
    assert len(text) > 1_000_000  # spaCy's own limit
    assert [text[o.start : o.end] for o in presidio(text) if o.kind == "EMAIL_ADDRESS"] == [
        "anna@example.org"
    ]


def test_nothing_asks_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    find = presidio_finder(["EMAIL_ADDRESS"])
    assert _found(find, "write to anna@example.org") == ["anna@example.org"]


@pytest.mark.slow
def test_torch_stays_out():
    program = (
        "import sys\n"
        "from palate.curate.recognizers import presidio_finder\n"
        "list(presidio_finder(['EMAIL_ADDRESS'])('a@example.org'))\n"
        "heavy = {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import importlib.util\n"  # it was hidden for a moment only
        "assert importlib.util.find_spec('torch')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
