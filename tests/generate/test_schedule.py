"""Who is in the batch: rows without gaps, answers in order, prompts while they are needed."""

from __future__ import annotations

import random

import numpy as np

from palate.generate.schedule import Key, Moves, Schedule

NOTHING = np.zeros(0)


def schedule(prompts: list[tuple[int, int]], batch_size: int, prefill: int = 1000) -> Schedule[Key]:
    """`prompts` as (length, answers)."""
    jobs = [
        ((number,) * length, [(number, k) for k in range(answers)])
        for number, (length, answers) in enumerate(prompts)
    ]
    return Schedule(jobs, batch_size, prefill)


def keys(found: Schedule[Key]) -> list[Key]:
    return [answer.key for answer in found.answers]


def fill(found: Schedule[Key]) -> list[int]:
    return [prompt.ids[0] for prompt in found.fill(lambda key: NOTHING)]


def test_answers_that_end_are_replaced_at_once() -> None:
    found = schedule([(5, 3), (5, 3), (5, 1)], batch_size=4)
    assert fill(found) == [0, 1]
    assert keys(found) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    answers, prompts = found.release([True, False, False, True])
    assert (answers, prompts) == (Moves([2], [0]), Moves([], []))
    assert fill(found) == []  # the second prompt still has two answers to give
    assert keys(found) == [(0, 2), (0, 1), (1, 1), (1, 2)]
    answers, prompts = found.release([True, True, False, False])
    assert (answers, prompts) == (Moves([2, 3], [0, 1]), Moves([1], [0]))
    assert [resident.row for resident in found.residents] == [0]
    assert fill(found) == [2]
    assert keys(found) == [(1, 1), (1, 2), (2, 0)]
    assert [resident.row for resident in found.residents] == [0, 1]
    found.release([True] * 3)
    assert fill(found) == []
    assert found.answers == []
    assert found.residents == []


def test_prompts_come_in_as_far_as_the_budget_goes_but_one_always() -> None:
    found = schedule([(40, 1), (60, 1), (1, 1), (200, 1)], batch_size=9, prefill=100)
    assert fill(found) == [0, 1]
    assert fill(found) == [2]
    assert fill(found) == [3]
    assert fill(found) == []


def test_every_answer_is_given_once_whatever_ends_when() -> None:
    draw = random.Random(0)
    for _ in range(200):
        prompts = [(draw.randint(1, 9), draw.randint(1, 4)) for _ in range(draw.randint(1, 9))]
        batch_size = draw.randint(1, 7)
        found = schedule(prompts, batch_size, prefill=draw.choice((1, 10, 1000)))
        rows: list[Key] = []  # what the engine's tensors would hold, moved as it is told
        homes: list[int] = []
        given: list[Key] = []
        while True:
            homes += fill(found)
            if not found.answers:
                break
            rows += keys(found)[len(rows) :]
            assert rows == keys(found)
            assert homes == [resident.ids[0] for resident in found.residents]
            assert all(a.prompt is found.residents[a.prompt.row] for a in found.answers)
            assert len(found.answers) <= batch_size
            assert len(found.residents) <= batch_size
            done = [draw.random() < 0.4 for _ in found.answers]
            given += [key for key, over in zip(rows, done, strict=True) if over]
            for held, moves in zip((rows, homes), found.release(done), strict=True):
                for source, to in zip(moves.source, moves.to, strict=True):
                    held[to] = held[source]  # type: ignore[call-overload]
            del rows[len(found.answers) :]
            del homes[len(found.residents) :]
        assert len(given) == len(set(given))
        assert set(given) == {(i, k) for i, (_, count) in enumerate(prompts) for k in range(count)}
