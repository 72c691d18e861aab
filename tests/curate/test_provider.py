"""Errors and refusals are told from answers that speak of them."""

import csv
import json
import time
from pathlib import Path

import pytest

from palate.curate.provider import (
    LONGEST_ERROR,
    drop_provider_errors,
    drop_refusals,
    is_provider_error,
    is_refusal,
)
from palate.records import Completion, Example, Message, Verdict

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

ERRORS = [
    "Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4'}}",
    "Error 503: Service Unavailable",
    "HTTP 500",
    "502 Bad Gateway",
    "[504] Gateway Time-out: the upstream did not answer",
    "Internal Server Error",
    "error: Too many requests.",
    "Request timed out.",
    "The operation has timed out",
    "Connection refused by the upstream host",
    "Rate limit exceeded, retry in 20 s",
    "You exceeded your current quota, please check your plan and billing details.",
    "The server had an error while processing your request. Sorry about that!",
    "That model is currently overloaded with other requests.",
    "This model's maximum context length is 8192 tokens, however you requested 9001.",
    "Incorrect API key provided",
    "upstream connect error or disconnect/reset before headers. reset reason: overflow",
    "openai.RateLimitError: Error code: 429",
    "httpx.ReadTimeout",
    "<html>\n<head><title>502 Bad Gateway</title></head></html>",
    'data: {"id":"chatcmpl-1","choices":[]}',
    "[object Object]",
    '{"error": {"message": "Overloaded", "type": "overloaded_error"}}',
    '{"type": "error", "error": {"type": "api_error"}}',
]
NO_ERRORS = [
    "",
    "A 502 Bad Gateway error means that a proxy got no answer from the server behind it.",
    "502 is the sum of 500 and 2.",
    "Error handling in Go is explicit: a function returns its error as a value.",
    "Error 404 was a room at CERN, so the story goes.",
    "Internal Server Error means that the server failed. Look into its log first.",
    "Not found. Try the second shelf.",
    "Connection errors are often caused by a proxy.\nCheck the settings, then the cable.",
    '{"error": "the date is in the past"}',
    '{"type": "circle", "radius": 2}',
    '{"error": {"message": broken',
    "HTTP is a protocol.",
    "The request timed out, so I looked it up: your parcel is in Hull.",
    "Too many requests were made, says the message, so wait a minute and try again.",
]
REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with this request.",
    "I cannot provide medical advice.",
    "Sorry, I am unable to answer questions about that.",
    "I apologize, but I cannot provide a translation for that sentence as it is not appropriate.",
    "As a responsible AI language model, I cannot provide advice on illegal activities.",
    "Unfortunately, I'm not able to share personal details.",
    "As an AI language model, I am not able to provide program codes.",
    "I must decline.",
    "I must respectfully decline to engage in this.",
    "I won't help you with that.",
    "I can't do that.",
    "I understand that you are upset, but I cannot give out the address.",
    "I don't feel comfortable writing this.",
    "I'm just an AI assistant, I can't respond to that.",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Lo siento, pero no puedo ayudar con eso.",
]
ANSWERS = [
    "",
    "I can't help but feel that spring is here.",
    "I'm sorry to hear that! Here are three things to try.",
    "As an AI assistant, I'd be more than happy to help you plan your vacation.",
    "You cannot provide a default for a required field.",
    "The report says: I cannot provide details.",
    "We cannot determine if Lily is taller than John.",
    "I cannot recommend this film enough? No: I can, and do.",
    "Sorry for the delay. Your parcel left Hull this morning.",
    "Penguins are birds that cannot fly.",
    "I apologize for the confusion in my previous response. Here is the corrected code.",
    "Es tut mir leid, das war ein Fehler. Die richtige Zahl ist 7.",
]


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text):
    assert is_provider_error(f" {text}\n")


@pytest.mark.parametrize("text", [*NO_ERRORS, *REFUSALS, *ANSWERS])
def test_answers_are_no_errors(text):
    assert not is_provider_error(text)


def test_a_long_text_is_no_error_whatever_it_begins_with():
    assert is_provider_error("502 Bad Gateway " + "." * (LONGEST_ERROR - 20))
    assert not is_provider_error("502 Bad Gateway " + "." * LONGEST_ERROR)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text):
    assert is_refusal(f" {text}\n")


@pytest.mark.parametrize("text", [t for t in ANSWERS if "recommend" not in t] + NO_ERRORS + ERRORS)
def test_answers_are_no_refusals(text):
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "sorry, " * 60,
        "however but " * 60,
        "as an ai assistant " * 40,
        "thank you, i understand, sorry, but " * 20,
        "i'm an ai, " * 60,
        "connection error " + "x" * 560,
        "openai" + ".a" * 290,
    ],
)
def test_texts_that_almost_are_one_take_no_time(text):
    begun = time.perf_counter()
    assert not is_refusal(text)
    assert not is_provider_error(text)
    assert time.perf_counter() - begun < 1


def _texts(name):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"the public file {name} is not here")
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as handle:
            return [row["prompt"] for row in csv.DictReader(handle)]
    return [
        answer
        for row in json.loads(path.read_text(encoding="utf-8"))
        for answer in (row["chosen"], row["rejected"])
        if isinstance(answer, str)
    ]


@pytest.mark.parametrize("name", ["xstest_prompts.csv", "polite_pairs.json"])
def test_real_texts_without_a_refusal(name):
    """450 prompts about what is refused, and 2,200 answers among which no refusal is."""
    assert [text for text in _texts(name) if is_refusal(text) or is_provider_error(text)] == []


def _pair(chosen, rejected):
    answers = tuple(Completion((Message("assistant", text),)) for text in (chosen, rejected))
    return Example((Message("user", "q"),), answers, verdict=Verdict(0, 1))


def _run(drop, examples):
    rejects = []
    kept = drop(examples, rejects.append)
    return kept, [(r.reason, r.detail) for r in rejects]


def test_an_error_on_either_side_spoils_a_pair():
    good = _pair("yes", "no")
    kept, rejects = _run(
        drop_provider_errors, [_pair("HTTP 500", "no"), good, _pair("a", "502 Bad\nGateway")]
    )
    assert kept == [good]
    assert rejects == [
        ("provider-error", "an answer is the error 'HTTP 500'"),
        ("provider-error", "an answer is the error '502 Bad Gateway'"),
    ]


def test_only_a_refusal_that_would_be_learned_goes():
    refusal = "I'm sorry, but I can't help with that."
    rows = [_pair(refusal, "no"), _pair("yes", refusal)]
    assert _run(drop_refusals, rows) == (
        [rows[1]],
        [("refusal", "the answer to be learned refuses")],
    )
    thumbs = [
        Example((Message("user", "q"),), (Completion((Message("assistant", refusal),), label=up),))
        for up in (True, False)
    ]
    assert _run(drop_refusals, thumbs)[0] == [thumbs[1]]
