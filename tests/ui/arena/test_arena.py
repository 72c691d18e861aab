"""Duels over HTTP: both asked at once, hidden names, votes in the store, each person apart."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import Any

import pytest
from tests.judge.chat_server import Handler, status
from tests.ui.arena.chat_stream import begin, event, streams
from tests.ui.arena.conftest import KEY, Duels
from tests.ui.conftest import PATIENCE, until

from palate.records import Message
from palate.store.reading import stored


def texts(events: list[tuple[str, Any]]) -> dict[str, str]:
    """What each side said."""
    return {
        side: "".join(data["text"] for name, data in events if name == side)
        for side in ("left", "right")
    }


def voted(duels: Duels) -> list[Any]:
    """The interactions of the arena."""
    every = stored(duels.site.site.store)
    return [one for one in every if one.example.tags.get("app") == "palate arena"]


def test_a_duel_from_the_question_to_the_store(duels: Duels) -> None:
    duel = duels.ask("hello", system="Be kind.", temperature=0, max_tokens=5)
    events = duels.follow(duel)
    assert sorted(texts(events).values()) == ["I am new.", "I am old."]
    name, last = events[-1]
    assert (name, last["over"], last["votable"]) == ("done", True, True)
    assert last["left"]["name"] is None, "before the vote"
    for server, model in ((duels.new, "new"), (duels.old, "old")):
        (sent,) = server.requests
        assert (sent["model"], sent["temperature"], sent["max_tokens"]) == (model, 0, 5)
        assert [turn["content"] for turn in sent["messages"]] == ["Be kind.", "hello"]
    told = duels.vote(duel, "4").json()
    right = told["names"]["right"]
    assert texts(events)["right"] == f"I am {right}."
    assert told["goes_on"] == "right"
    assert told["tally"]["wins"] + told["tally"]["losses"] == 1
    (one,) = voted(duels)
    assert [answer.source for answer in one.example.completions] == list(told["names"].values())
    assert [turn.content for turn in one.example.prompt] == ["Be kind.", "hello"]
    (said,) = one.signals
    assert (said.choice, said.over, said.by) == (1, 0, duels.site.site.people.owner.name)


def test_the_conversation_goes_on_from_the_better_answer_for_both(duels: Duels) -> None:
    first = duels.ask("hello")
    right = texts(duels.follow(first))["right"]
    assert duels.vote(first, "5").status_code == 200
    second = duels.ask("more", talk=first["talk"])
    duels.follow(second)
    for server in (duels.new, duels.old):
        turns = [turn["content"] for turn in server.requests[-1]["messages"]]
        assert turns == ["hello", right, "more"], "both answer the same prompt"
    left = texts(duels.follow(second))["left"]
    assert left == "", "what has been followed is told as a whole"
    assert duels.vote(second, "3").json()["goes_on"] == "left"
    tie = duels.talk(second)
    assert tie["turns"][-1]["content"] == tie["duel"]["left"]["text"]


def test_both_bad_leaves_nothing_and_may_be_asked_again(duels: Duels) -> None:
    duel = duels.ask("hello")
    duels.follow(duel)
    assert duels.vote(duel, "bad").json()["goes_on"] is None
    assert duels.talk(duel)["turns"] == []
    again = duels.site.client.post(f"/arena/talk/{duel['talk']}/again", json={}).json()
    assert again["duel"] != duel["duel"]
    duels.follow(again)
    assert duels.vote(again, "1").status_code == 200
    assert len(voted(duels)) == 2
    gone_on = duels.site.client.post(f"/arena/talk/{duel['talk']}/again", json={})
    assert "has gone on" in gone_on.json()["error"]


def test_sides_are_drawn_anew_for_each_duel(duels: Duels) -> None:
    """Forty fair draws fall on one side only once in 2 to the 39th times."""
    duel, lefts = duels.ask(), set()
    for _ in range(40):
        lefts.add(texts(duels.follow(duel))["left"])
        if len(lefts) == 2:
            return
        duel = duels.site.client.post(f"/arena/talk/{duel['talk']}/again", json={}).json()
    raise AssertionError(f"always {lefts}")


def test_a_vote_is_once_and_the_same_vote_again_is_the_same(duels: Duels) -> None:
    duel = duels.ask()
    assert "no two whole answers" in duels.vote(duel, "1").json()["error"], "nothing has come yet"
    duels.follow(duel)
    assert "a vote is one of" in duels.vote(duel, "6").json()["error"]
    first = duels.vote(duel, "1").json()
    assert duels.vote(duel, "1").json() == first
    assert "has its vote" in duels.vote(duel, "2").json()["error"]
    assert len(voted(duels)) == 1
    assert len(duels.talk(duel)["turns"]) == 2


def test_what_must_be_voted_on_comes_first(duels: Duels) -> None:
    duel = duels.ask()
    duels.follow(duel)
    refused = duels.site.client.post("/arena/ask", json={"said": "x", "talk": duel["talk"]})
    assert "which answer is better" in refused.json()["error"]


@pytest.mark.parametrize(
    ("act", "finish", "why"),
    [
        (status(500, f"it burns {KEY}"), "error", "500: it burns ***"),
        (streams("half", finish=None), "error", "broke off"),
        (streams("half", finish="length"), "length", None),
        (streams(" "), "stop", None),
    ],
)
def test_what_is_cut_or_fails_is_said(duels: Duels, act: Any, finish: str, why: str | None) -> None:
    """An error is none to vote on, nor is an answer of nothing; one at its limit is."""
    duels.new.plan = [act]
    duel = duels.ask()
    events = duels.follow(duel)
    ended = {data["side"]: data for name, data in events if name == "ended"}
    new = next(data for data in ended.values() if data["finish"] == finish or len(ended) == 1)
    assert why is None or why in new["why"]
    votable = finish == "length"
    assert events[-1][1]["votable"] is votable
    assert (duels.vote(duel, "1").status_code == 200) is votable
    if votable:
        (one,) = voted(duels)
        assert {c.source: c.finish_reason for c in one.example.completions}["new"] == "length"


def test_the_key_reaches_the_server_and_nothing_else(duels: Duels) -> None:
    duel = duels.ask()
    events = duels.follow(duel)
    told = duels.vote(duel, "1").text
    assert duels.new.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in duels.old.headers[0]
    client = duels.site.client
    pages = [client.get(path).text for path in ("/arena", "/arena/contenders")]
    pages += [client.get(f"{path}.json").text for path in ("/arena", "/arena/contenders")]
    assert "ARENA_TEST_KEY" in pages[3], "its variable is named"
    everything = json.dumps(events) + told + "".join(pages) + "".join(duels.site.said)
    everything += "".join(str(one) for one in voted(duels))
    assert KEY not in everything


def test_who_leaves_ends_both_answers_and_the_next_question_may_come(duels: Duels) -> None:
    gone = {"new": threading.Event(), "old": threading.Event()}

    def endless(name: str) -> Any:
        def act(handler: Handler) -> None:
            begin(handler)
            try:
                while not handler.server.over.wait(0.02):
                    handler.wfile.write(event("x"))
            except OSError:
                gone[name].set()

        return act

    duels.new.plan, duels.old.plan = [endless("new")], [endless("old")]
    duel = duels.ask()
    path = f"/arena/talk/{duel['talk']}/duel/{duel['duel']}"
    with duels.site.client.stream("GET", path) as response:
        lines = response.iter_lines()  # held: without it the stream would be closed
        assert next(lines) == "event: state"
        twice = duels.site.client.get(path)
        assert "another window" in twice.json()["error"]
        early = duels.site.client.post(f"/arena/talk/{duel['talk']}/again", json={})
        assert "still coming" in early.json()["error"]
    assert gone["new"].wait(PATIENCE)
    assert gone["old"].wait(PATIENCE)
    left = until(lambda: duels.talk(duel)["duel"]["over"] and duels.talk(duel)["duel"], "its end")
    assert left["left"]["why"] == "the answer was left before its end"
    again = duels.site.client.post(f"/arena/talk/{duel['talk']}/again", json={}).json()
    assert duels.follow(again)[-1][1]["votable"]


def test_a_slow_duel_of_one_person_holds_up_nobody(duels: Duels) -> None:
    released = threading.Event()

    def slow(handler: Handler) -> None:
        released.wait(PATIENCE)
        streams("late")(handler)

    duels.new.plan = [slow]
    waiting = duels.ask()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(duels.follow(waiting)))
    thread.start()
    until(lambda: duels.new.requests, "the slow question")
    with closing(duels.site.annotator("bob")) as bob:
        duel = duels.ask("me too", client=bob)
        assert duels.follow(duel, client=bob)[-1][1]["votable"]
        assert duels.vote(duel, "2", client=bob).status_code == 200
        stranger = bob.get(f"/arena/talk/{waiting['talk']}.json")
        assert stranger.status_code == 404, "a conversation is its person's own"
        for path in ("/arena/contenders", "/arena/start"):
            assert bob.post(path, json={}).status_code == 403
        assert bob.get("/arena/contenders").status_code == 403
        assert bob.get("/arena").status_code == 200
    released.set()
    thread.join(PATIENCE)
    assert found[-1][1]["votable"]
    assert [one.signals[0].by for one in voted(duels)] == ["bob"]


def test_a_form_that_cannot_be_is_refused_by_its_field(duels: Duels) -> None:
    post = duels.site.client.post
    bad = post("/arena/ask", json={"said": "x", "temperature": 3, "max_tokens": 0})
    assert bad.status_code == 422
    assert set(bad.json()["fields"]) == {"temperature", "max_tokens"}
    assert "write something" in post("/arena/ask", json={"said": " \n"}).json()["error"]
    assert "at most 100,000" in post("/arena/ask", json={"said": "x" * 100_001}).json()["error"]
    assert post("/arena/ask", json={"said": "x", "talk": "none"}).status_code == 404
    same = {"first": f"{duels.new.url}#m", "second": f"{duels.old.url}#m"}
    assert "both would be called 'm'" in post("/arena/contenders", json=same).json()["error"]
    wrong = post("/arena/contenders", json={"first": "run:../x", "second": f"{duels.new.url}#m"})
    assert set(wrong.json()["fields"]) == {"first"}
    no_key = {"first": f"{duels.new.url}#a key_env=NO_SUCH", "second": f"{duels.new.url}#b"}
    assert "variable NO_SUCH" in post("/arena/contenders", json=no_key).json()["error"]


def test_text_of_models_is_data_in_the_page(duels: Duels) -> None:
    """A page that is loaded again has the answer as text, and the store keeps it as it came."""
    bad = "<img src=x onerror=alert(1)></script>\ud83d"
    duels.new.otherwise = duels.old.otherwise = streams(bad)
    duel = duels.ask("<b>bold</b>")
    duels.follow(duel)
    assert duels.vote(duel, "1").status_code == 200
    page = duels.site.client.get(f"/arena/talk/{duel['talk']}").text
    assert "<img src=x" not in page
    assert "<b>bold" not in page
    (one,) = voted(duels)
    assert one.example.completions[0].text == bad.replace("\ud83d", "\ufffd")
    assert one.example.prompt == (Message("user", "<b>bold</b>"),)
