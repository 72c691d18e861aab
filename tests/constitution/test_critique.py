from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.speakers import Killed, Scripted, killed_after

from palate.cli.constitution import named, write_rows
from palate.constitution.critique import Plan, chains, demonstrations, pairs, summarise
from palate.ingest import read_examples
from palate.records import Example, Message
from palate.speak.speaker import Manner, Reply

OURS = named("default")


def prompts(number: int = 5) -> list[Example]:
    return [
        Example((Message("system", "S"), Message("user", f"Question {n}")), (), tags={"topic": "t"})
        for n in range(number)
    ]


def kind(turns: Sequence[Message]) -> str:
    """What the conversation asks for: an answer, a critique or a revision."""
    first = turns[0].content
    if first.startswith("You review"):
        return "critique"
    return "revision" if first.startswith("You improve") else "answer"


def helpful(turns: Sequence[Message], manner: Manner) -> str:
    text = {"answer": "First answer", "critique": "Too short", "revision": "Better answer"}
    return f"{text[kind(turns)]} {manner.seed % 1000}"


PLAN = Plan(rounds=2, manner=Manner(seed=7), group=2)


def test_the_whole_chain_is_kept(tmp_path: Path) -> None:
    speaker = Scripted(helpful)
    rows = chains(prompts(), speaker, OURS, PLAN, tmp_path / "log.jsonl")
    assert len(rows) == 5
    for row, example in zip(rows, prompts(), strict=True):
        assert row["key"] == example.prompt_key
        assert row["first"]["text"].startswith("First answer")
        assert [one["kept"] for one in row["rounds"]] == [True, True]
        assert len({one["principle"] for one in row["rounds"]}) == 2
        assert row["final"] == row["rounds"][-1]["revision"]["text"]
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines[1:]] == rows
    # The second round works on the first one's revision.
    second = next(
        turns
        for turns in speaker.asked
        if kind(turns) == "critique" and "Better answer" in turns[-1].content
    )
    assert rows[0]["rounds"][0]["revision"]["text"] in second[-1].content


@pytest.mark.parametrize("calls", range(15))
def test_after_a_kill_at_any_call_the_log_is_the_same(tmp_path: Path, calls: int) -> None:
    chains(prompts(), Scripted(helpful), OURS, PLAN, tmp_path / "whole.jsonl")
    # Three groups, each asked once for answers and four times in two rounds.
    path = tmp_path / "log.jsonl"
    with pytest.raises(Killed):
        chains(prompts(), killed_after(Scripted(helpful), calls), OURS, PLAN, path)
    again = Scripted(helpful)
    chains(prompts(), again, OURS, PLAN, path)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    answers = sum(kind(turns) == "answer" for turns in again.asked)
    assert answers == 5 - 2 * (calls // 5), "what is done is not asked again"


def test_bad_revisions_are_counted_and_kept_out(tmp_path: Path) -> None:
    bad = ["", "First answer", "Here is the revised answer: hello", "cut"]

    def say(turns: Sequence[Message], manner: Manner) -> Reply | str:
        if kind(turns) == "answer":
            return "First answer"
        if kind(turns) == "critique":
            return "Too short"
        number = next(n for n in range(5) if f"Question {n}" in turns[-1].content)
        if number == 4:
            return "A good one"
        return Reply(bad[number], finished=number != 3)

    plan = Plan(rounds=1, group=16)
    rows = chains(prompts(), Scripted(say), OURS, plan, tmp_path / "log.jsonl")
    found = summarise(rows)
    assert (found.prompts, found.kept, found.pairs) == (5, 1, 1)
    assert found.left_out == {"empty": 1, "unchanged": 1, "leak": 1, "truncated": 1}
    assert found.rounds_left_out == found.left_out
    assert sum(kept for kept, _ in found.by_principle.values()) == 1
    assert sum(of for _, of in found.by_principle.values()) == 5
    assert [row["completion"][0]["content"] for row in demonstrations(rows, OURS, "m")] == [
        "A good one"
    ]


def test_a_bad_round_leaves_the_answer_before_it(tmp_path: Path) -> None:
    revisions = iter(["Better answer", ""])

    def say(turns: Sequence[Message], manner: Manner) -> str:
        return next(revisions) if kind(turns) == "revision" else "First answer"

    (row,) = chains(prompts(1), Scripted(say), OURS, Plan(rounds=2), tmp_path / "log.jsonl")
    assert row["final"] == "Better answer"
    assert [one["reason"] for one in row["rounds"]] == [None, "empty"]
    (shown,) = demonstrations([row], OURS, "m")
    assert shown["metadata"]["rounds"] == 1
    assert shown["metadata"]["principles"] == row["rounds"][0]["principle"]


def test_without_a_first_answer_or_a_critique_nothing_is_revised(tmp_path: Path) -> None:
    def say(turns: Sequence[Message], manner: Manner) -> Reply | str:
        if kind(turns) == "critique":
            return Reply("", failure="server")
        failed = turns[-1].content == "Question 0"
        return Reply("", failure="prompt-too-long") if failed else "First answer"

    speaker = Scripted(say)
    rows = chains(prompts(2), speaker, OURS, Plan(), tmp_path / "log.jsonl")
    assert [row["reason"] for row in rows] == ["first-prompt-too-long", "critique-server"]
    assert not any(kind(turns) == "revision" for turns in speaker.asked)


def test_back_to_the_first_answer_is_unchanged(tmp_path: Path) -> None:
    revisions = iter(["Better answer", "first ANSWER"])

    def say(turns: Sequence[Message], manner: Manner) -> str:
        return next(revisions) if kind(turns) == "revision" else "First answer"

    (row,) = chains(prompts(1), Scripted(say), OURS, Plan(rounds=2), tmp_path / "log.jsonl")
    assert (row["final"], row["reason"]) == (None, "unchanged")


def test_ingest_reads_what_comes_out_with_its_provenance(tmp_path: Path) -> None:
    rows = chains(prompts(), Scripted(helpful), OURS, PLAN, tmp_path / "log.jsonl")
    rows[0]["first"]["finished"] = False
    write_rows(tmp_path / "sft.jsonl", list(demonstrations(rows, OURS, "m")))
    write_rows(tmp_path / "dpo.jsonl", list(pairs(rows, OURS, "m")))
    shown = list(read_examples(tmp_path / "sft.jsonl"))
    assert [example.shape for example in shown] == ["demonstration"] * 5
    assert shown[0].prompt == prompts()[0].prompt
    assert shown[0].completions[0].text == rows[0]["final"]
    tags = shown[0].tags
    assert tags["constitution"] == f"default@{OURS.hash}"
    assert tags["principles"] == ", ".join(one["principle"] for one in rows[0]["rounds"])
    assert (tags["rounds"], tags["revised_by"], tags["topic"]) == ("2", "m", "t")
    assert tags["first_answer"] == rows[0]["first"]["text"]
    preferred = list(read_examples(tmp_path / "dpo.jsonl"))
    assert len(preferred) == 4, "an unfinished first answer makes no pair"
    assert preferred[0].chosen.text == rows[1]["final"]
    assert preferred[0].rejected.text == rows[1]["first"]["text"]
