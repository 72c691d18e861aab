"""Votes as CSV."""

from __future__ import annotations

import csv
import io

from tests.ui.agreement.worlds import World

from palate.store.settling import settle
from palate.ui.agreement.queue import last_word
from palate.ui.agreement.sheet import sheet
from palate.ui.agreement.votes import read_votes


def test_one_row_a_vote(world: World) -> None:
    world.say('0 =cmd B ba 0.75 =HYPERLINK(1,"x"), or not\n=1+1;=2', "0 ann = ab", "1 bob up")
    settle(world.store, world.id("pair-0"), (0, 1), last_word((0, 1), "first", "owner"))
    rows = list(csv.DictReader(io.StringIO(sheet(read_votes(world.store)), newline="")))
    by = {row["annotator"]: row for row in rows}
    assert set(by) == {"'=cmd", "ann", "bob", "owner", "customer"}
    first = by["'=cmd"]
    assert first["interaction"] == world.id("pair-0")
    assert (first["word"], first["better"], first["answers"]) == ("second", "1", "0 1")
    assert (first["shown_first"], first["strength"]) == ("1", "0.75")
    assert first["comment"] == "'=HYPERLINK(1,\"x\"), or not\n'=1+1;'=2"
    assert (by["ann"]["word"], by["ann"]["better"], by["ann"]["shown_first"]) == ("tie", "", "0")
    assert [by[name]["settles"] for name in ("ann", "owner")] == ["", "yes"]
