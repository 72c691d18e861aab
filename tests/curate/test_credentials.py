"""Secrets are found where they begin and where they end."""

import base64
import json

import pytest

from palate.curate.credentials import secret_finders


@pytest.fixture(scope="module")
def find():
    finders = secret_finders()
    return lambda text: {text[a:b] for finder in finders for a, b in finder(text)}


def _jwt():
    parts = [{"alg": "HS256"}, {"sub": "42"}]
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*coded, "c2lnbmF0dXJlLW9mLTMyLWJ5dGVz"])


# Made up, and put together here so that no scanner takes this file for a leak.
SECRETS = [
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1B2c3D4e5" * 3 + "a1B2c3",
    "github_pat_" + "11ABCDEFG0" * 4,
    "glpat-" + "x1y2z3w4v5" * 2,
    "xoxb-" + "1234567890-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "sk-proj-" + "Ab12" * 12,
    "sk-ant-" + "api03-" + "Zz9_" * 10,
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "hf_" + "AbCdEfGhIj" * 3 + "KlMn",
    "SG." + "a" * 22 + "." + "b" * 43,
    "pypi-AgEIcHlwaS5vcmc" + "A1b2" * 20,
    _jwt(),
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s[:8])
def test_keys_and_tokens(find, secret):
    assert find(f"my key is {secret}, keep it safe") == {secret}


def test_only_the_value_that_is_secret(find):
    key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert find(f"aws_secret_access_key = '{key}'") == {key}
    assert find("postgres://anna:hunter2@db.example.org/shop") == {"hunter2"}
    token = "abcDEF123456" * 3
    assert find(f"Authorization: Bearer {token}") == {token}


def test_a_private_key_goes_from_its_first_line_to_its_last(find):
    begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    block = f"{begin}\nMIIEow\nIBAAKC\n{end}"
    assert find(f"look:\n{block}\nthat is it") == {block}
    assert find(f"{begin}\nMIIEow") == {f"{begin}\nMIIEow"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ask-me-anything-about-your-order-and-delivery-please",
        "The bearer of this letter may pass.",
        "https://example.org/eyJ.html and mailto:anna@example.org",
        "eyJhbGciOi.notjson.atall",
        "SELECT password FROM users WHERE id = 7",
        "task-0123456789abcdef-0123456789abcdef-0123",
    ],
)
def test_what_is_no_secret(find, text):
    assert find(text) == set()
