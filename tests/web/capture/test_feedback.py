"""What a body of feedback says, and what is refused with which words."""

from __future__ import annotations

import json

import pytest

from palate.records import Message, Signal
from palate.web.capture.feedback import BadFeedback, read, signals

ABOUT = ("openai:chatcmpl-8xKq01",)


def _said(**body):
    return signals(read(json.dumps({"id": "chatcmpl-8xKq01", **body}).encode()))


@pytest.mark.parametrize(("rating", "label"), [("up", True), ("down", False), (True, True)])
def test_a_thumb(rating, label):
    assert _said(rating=rating) == [Signal(ABOUT, "thumb", 0, label=label)]


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("chatcmpl-8xKq01", "openai:chatcmpl-8xKq01"),
        ("msg_01XFDUDYJg", "anthropic:msg_01XFDUDYJg"),
        ("0f3a-77bc", "response:0f3a-77bc"),
    ],
)
def test_the_id_is_looked_for_under_its_providers_name(name, about):
    (signal,) = signals({"id": name, "rating": "up"})
    assert signal.about == (about,)


def test_an_edit_as_text_or_as_messages():
    edit = (Message("assistant", "Better."),)
    expected = [Signal(ABOUT, "edit", 0, edit=edit)]
    assert _said(edit="Better.") == expected
    assert _said(edit=[{"role": "assistant", "content": "Better."}]) == expected


def test_asked_again():
    assert _said(again=True) == [Signal(ABOUT, "again", 0)]


def test_several_at_once_by_one_person_about_one_choice():
    said = _said(rating="down", edit="B", again=True, choice=2, user="anna", comment="too long")
    assert [signal.kind for signal in said] == ["thumb", "edit", "again"]
    assert {(s.choice, s.by, s.comment, s.about) for s in said} == {(2, "anna", "too long", ABOUT)}


def test_fields_that_are_null_are_left_out():
    assert read(b'{"id": " chatcmpl-8xKq01 ", "rating": "up", "comment": null, "edit": null}') == {
        "id": " chatcmpl-8xKq01 ",
        "rating": "up",
    }
    assert _said(rating="up", edit=None) == [Signal(ABOUT, "thumb", 0, label=True)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"rating=up", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'["up"]', "the body is a list"),
        (b"null", "the body is null"),
        (b'{"rating": "up"}', "give the id"),
        (b'{"id": "", "rating": "up"}', "give the id"),
        (b'{"id": 7, "rating": "up"}', "give the id"),
        (b'{"id": "%s", "rating": "up"}' % (b"x" * 600), "does not name one answer"),
        (b'{"id": "chatcmpl-123", "rating": "up"}', "does not name one answer"),
        (b'{"id": "msg_8xKq01"}', "say something"),
        (b'{"id": "msg_8xKq01", "comment": "hm"}', "say something"),
        (b'{"id": "msg_8xKq01", "rating": ""}', "say something"),
        (b'{"id": "msg_8xKq01", "rating": "meh"}', "neither up nor down"),
        (b'{"id": "msg_8xKq01", "rating": 0}', "neither up nor down"),
        (b'{"id": "msg_8xKq01", "ratign": "up"}', "unknown field 'ratign'"),
        (b'{"id": "msg_8xKq01", "again": false}', "'again' is true"),
        (b'{"id": "msg_8xKq01", "again": 1}', "'again' is true"),
        (b'{"id": "msg_8xKq01", "edit": ""}', "empty"),
        (b'{"id": "msg_8xKq01", "edit": 7}', "edit"),
        (b'{"id": "msg_8xKq01", "edit": [{"role": "user", "content": "x"}]}', "assistant"),
        (b'{"id": "msg_8xKq01", "rating": "up", "choice": -1}', "'choice' is the index"),
        (b'{"id": "msg_8xKq01", "rating": "up", "choice": true}', "'choice' is the index"),
        (b'{"id": "msg_8xKq01", "rating": "up", "choice": "0"}', "'choice' is the index"),
        (b'{"id": "msg_8xKq01", "rating": "up", "user": 7}', "'user' is a number"),
        (b'{"id": "msg_8xKq01", "rating": "up", "comment": []}', "'comment' is a list"),
        (b'{"id": "msg_8xKq01", "rating": "up", "comment": "\\ud800"}', "surrogate"),
    ],
)
def test_a_bad_body_is_refused_in_one_line(body, words):
    with pytest.raises(BadFeedback, match=words) as caught:
        read(body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
