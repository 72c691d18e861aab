"""A follower: what listeners are told, and that one look serves them all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.runs.folders import begin, dpo_lines, finish, heldout_line, train_line, write

from palate.ui.pages import NotThere
from palate.ui.runs import live
from palate.ui.runs.live import Follower, Followers, together
from palate.ui.runs.metrics import Metrics
from palate.ui.runs.states import State

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK", 0.01)
    monkeypatch.setattr(live, "SELDOM", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = begin(tmp_path)
    write(folder, *dpo_lines(1, 3))
    return folder


def follower(folder: Path) -> Follower:
    def state() -> State:
        return State("complete" if (folder / "results.json").exists() else "running")

    return Follower(folder.name, Metrics(folder / "metrics.jsonl"), state)


async def following(events: AsyncIterator[dict[str, Any]], name: str) -> Any:
    """The data of the next event of that name."""
    async with asyncio.timeout(PATIENCE):
        async for event in events:
            if event.get("event") == name:
                return event["data"]
    raise AssertionError(f"the stream ended before {name}")


def test_new_lines_are_told_as_they_come(folder: Path) -> None:
    async def watch() -> None:
        one = follower(folder)
        mark = one.metrics.read()
        events = one.listen(mark)
        begun = await following(events, "progress")
        assert begun["state"] == "running"
        assert (begun["progress"]["step"], begun["progress"]["total"]) == (3, 20)
        write(folder, train_line(4, loss=0.25), heldout_line(4, loss=0.5))
        told = await following(events, "points")
        assert told["lines"]["train.loss"] == [[4], [0.25]]
        assert told["lines"]["heldout.loss"] == [[4], [0.5]]
        write(folder, train_line(5, loss=0.125))
        told = await following(events, "points")
        assert told["lines"]["train.loss"] == [[5], [0.125]]
        await events.aclose()

    asyncio.run(watch())


def test_what_came_before_the_listener_is_told_after_its_mark(folder: Path) -> None:
    async def watch() -> None:
        one = follower(folder)
        mark = one.metrics.read()
        write(folder, train_line(4, loss=0.25))
        events = one.listen(mark)
        assert (await following(events, "points"))["lines"]["train.loss"] == [[4], [0.25]]
        await events.aclose()

    asyncio.run(watch())


def test_a_run_that_is_deleted_and_begun_anew_is_followed_again(folder: Path) -> None:
    """`rm -r runs/desk`, and the same recipe once more, while a page is open."""

    def state() -> State:
        if not (folder / "config.yaml").is_file():
            missed.append(1)
            raise NotThere("there is no run of that name")
        return State("running")

    async def watch() -> None:
        one = Follower(folder.name, Metrics(folder / "metrics.jsonl"), state)
        events = one.listen(one.metrics.read())
        await following(events, "progress")
        waiting = asyncio.create_task(following(events, "again"))
        shutil.rmtree(folder)
        async with asyncio.timeout(PATIENCE):
            while len(missed) < 2:
                await asyncio.sleep(0.01)
        begin(folder.parent)
        write(folder, train_line(1, loss=9.0))
        assert (await waiting)["run"] == "desk"
        await events.aclose()

    missed: list[int] = []
    asyncio.run(watch())


def test_it_ends_with_the_run(folder: Path) -> None:
    async def watch() -> list[str]:
        one = follower(folder)
        names = []
        async with asyncio.timeout(PATIENCE):
            async for event in one.listen(None):
                names.append(event.get("event", ""))
                if names == ["progress"]:
                    write(folder, train_line(4, loss=0.25))
                    finish(folder)
        assert one.listeners == 0
        return names

    names = asyncio.run(watch())
    assert names[-1] == "end"
    assert {"progress", "changed"} <= set(names)


def test_a_run_begun_anew_is_drawn_again(folder: Path) -> None:
    async def watch() -> None:
        one = follower(folder)
        events = one.listen(one.metrics.read())
        await following(events, "progress")
        (folder / "metrics.jsonl").rename(folder / "aside")
        write(folder, train_line(1, loss=9.0))
        again = await following(events, "again")
        assert again["run"] == "desk"
        await events.aclose()

    asyncio.run(watch())


def test_who_is_far_behind_draws_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEHIND", 2)

    async def watch() -> None:
        one = follower(folder)
        mark = one.metrics.read()
        write(folder, *dpo_lines(4, 6))
        events = one.listen(mark)
        await following(events, "again")
        await events.aclose()

    asyncio.run(watch())


def test_many_listeners_are_one_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty listeners see a line; it is read, and made into points, once."""
    made = []
    plain = live.since
    monkeypatch.setattr(live, "since", lambda *args: made.append(args) or plain(*args))

    async def watch() -> None:
        one = follower(folder)
        mark = one.metrics.read()
        all_of_them = [one.listen(mark) for _ in range(20)]
        waiting = [asyncio.create_task(following(events, "progress")) for events in all_of_them]
        await asyncio.gather(*waiting)
        assert one.listeners == 20
        write(folder, train_line(4, loss=0.25))
        told = await asyncio.gather(*(following(events, "points") for events in all_of_them))
        assert all(found["lines"]["train.loss"] == [[4], [0.25]] for found in told)
        for events in all_of_them:
            await events.aclose()
        assert one.listeners == 0
        looks = one._looks
        await asyncio.sleep(0.1)
        assert one._looks <= looks + 1, "nobody listens: nobody looks"

    asyncio.run(watch())
    assert len(made) == 1


def test_a_heartbeat_where_nothing_happens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)

    async def watch() -> None:
        events = follower(folder).listen(None)
        async with asyncio.timeout(PATIENCE):
            async for event in events:
                if event == {}:
                    break
        await events.aclose()

    asyncio.run(watch())


def test_several_runs_in_one_stream(tmp_path: Path) -> None:
    folders = [begin(tmp_path, name) for name in ("a", "b")]

    async def watch() -> list[tuple[str, str]]:
        found = []
        sources = [follower(folder).listen(None) for folder in folders]
        async with asyncio.timeout(PATIENCE):
            async for event in together(sources):
                if event:
                    found.append((event["event"], event["data"]["run"]))
                if len(found) == 2:
                    for folder in folders:
                        finish(folder)
        return found

    found = asyncio.run(watch())
    assert {run for name, run in found if name == "end"} == {"a", "b"}


def test_one_follower_for_each_run_that_is_watched(folder: Path) -> None:
    followers = Followers()
    one = followers.follower(folder, lambda: follower(folder))
    one.listeners = 1
    assert followers.follower(folder, lambda: follower(folder)) is one
    one.listeners = 0
    assert followers.follower(folder, lambda: follower(folder)) is not one


def test_parts_change_with_files_and_with_growth(folder: Path) -> None:
    """Three lines are told; a fourth is a third more, and then a fifth is less than a quarter."""
    one = follower(folder)
    first = one.look()
    assert one.look().parts == first.parts
    write(folder, train_line(4, loss=0.25))
    second = one.look()
    assert second.parts == first.parts + 1
    write(folder, train_line(5, loss=0.25))
    assert one.look().parts == second.parts
    (folder / "samples.jsonl").write_text("{}\n", encoding="utf-8")
    assert one.look().parts == second.parts + 1
