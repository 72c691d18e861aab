"""The lanes and their thread: rows, memory, who waits, and what a failure leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from tests.serve.conftest import until
from tests.tiny import END, byte_tokenizer, tiny_model

from palate.generate.draw import Sampling
from palate.model.policy import Policy
from palate.serve import lane as lanes
from palate.serve.job import FAILED, Job, open_job
from palate.serve.lane import Lane, Told
from palate.serve.refusal import Refused
from palate.serve.scheduler import Scheduler

TOKENIZER = byte_tokenizer()
# Two layers with two key heads of width 8 in fp32: keys and values of one token.
POSITION = 2 * 2 * 2 * 8 * 4


def lane(rows: int = 4, positions: int = 10_000) -> Lane:
    return Lane(Policy(tiny_model(), layout="plain").eval(), rows, positions * POSITION)


def job(text: str = "hello", *, n: int = 1, most: int = 8, **how: Any) -> Job:
    return open_job(
        TOKENIZER(text, add_special_tokens=False)["input_ids"],
        Sampling(**{"temperature": 1.0, "top_k": 0, **how}),
        n=n,
        stops=(),
        top=None,
        tokenizer=TOKENIZER,
        ends=frozenset([END]),
        most=most,
    )


def run(one: Lane, jobs: list[Job], most_steps: int = 1000) -> list[str]:
    """Step until nothing is left; the text of each job's first choice."""
    one.waiting.extend(jobs)
    said: dict[int, str] = {id(each): "" for each in jobs}
    with torch.no_grad():
        for _ in range(most_steps):
            for whose, piece in one.step():
                if piece.index == 0:
                    said[id(whose)] = said.get(id(whose), "") + piece.text
            if not one.busy:
                break
    return [said[id(each)] for each in jobs]


def test_answers_do_not_depend_on_who_else_is_there() -> None:
    """Different prompts, lengths and settings, in batches of 1, 3 and 8."""
    hows: list[dict[str, Any]] = [
        {"seed": 1},
        {"seed": 2},
        {"seed": 1, "top_p": 0.6},
        {"seed": 4},
        {"seed": 5, "top_p": 0.9},
    ]

    def jobs() -> list[Job]:
        return [
            job(f"hello {'x' * (7 * number)}", most=5 + 4 * number, **how)
            for number, how in enumerate(hows)
        ]

    alone = run(lane(1), jobs())
    assert len(set(alone)) == len(alone)
    assert run(lane(3), jobs()) == alone
    assert run(lane(8), jobs()) == alone


def test_a_request_waits_for_a_row_for_each_choice() -> None:
    one = lane(rows=4)
    first, second, third = job(n=3), job(n=2), job()
    one.waiting.extend([first, second, third])
    with torch.no_grad():
        one.step()
    assert one.running == 3  # the second needs two rows; the third does not overtake it
    assert list(one.waiting) == [second, third]
    run(one, [])
    assert all(each.over for each in (first, second, third))


def test_memory_is_promised_before_a_request_is_let_in() -> None:
    """Prompts of 8 tokens and answers of up to 64: 72 positions alone, 144 for two, 288 for 3."""
    one = lane(rows=4, positions=150)
    assert one.fits_alone(8, 64, 1)
    assert one.fits_alone(8, 64, 2)  # 2 · 64 + 8
    assert not one.fits_alone(8, 64, 3)  # 4 · 64 + 8
    assert not one.fits_alone(151, 1, 1)
    jobs = [job("12345678", most=60, seed=seed) for seed in range(3)]
    one.waiting.extend(jobs)
    with torch.no_grad():
        one.step()
        assert one.running == 2
        for _ in range(140):
            assert one.running < 2 or one.bytes <= 150 * POSITION
            one.step()
    assert all(each.over for each in jobs)


def test_who_leaves_frees_the_row_before_the_next_step() -> None:
    one = lane(rows=2)
    jobs = [job(seed=seed, most=50) for seed in range(3)]
    one.waiting.extend(jobs)
    with torch.no_grad():
        one.step()
        assert [each.choices[0].count for each in jobs] == [1, 1, 0]
        jobs[0].gone = True
        one.step()
        assert [each.choices[0].count for each in jobs] == [1, 2, 1]
        jobs[1].gone = jobs[2].gone = True
        one.step()
    assert (one.running, one.busy) == (0, False)
    assert (one._schedule.answers, one._schedule.residents) == ([], [])
    one.rest()
    assert one.bytes == 0


def test_padded_batches_begin_when_the_one_before_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(lane(1), [job(seed=seed, most=6 + seed) for seed in range(5)])
    monkeypatch.setattr(lanes, "why_padded", lambda policy, longest: "it is not proved")
    one = lane(rows=2)
    jobs = [job(seed=seed, most=6 + seed) for seed in range(5)]
    assert run(one, jobs) == alone
    assert one.bytes == 0


def test_who_leaves_while_a_step_computes_leaves_no_row_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second hangs up as the first one's last token is taken."""
    one = lane()
    first, second = job(seed=1, most=3), job(seed=2, most=50)
    take = lanes.Choice.take

    def hang_up(self: Any) -> Any:
        told = take(self)
        if self.job is first and self.finish is not None:
            second.gone = True
        return told

    monkeypatch.setattr(lanes.Choice, "take", hang_up)
    run(one, [first, second])
    assert first.over
    assert not second.over
    assert (one._inside, one._schedule.answers, one._schedule.residents) == ([], [], [])
    one.rest()
    expected = run(lane(), [job("another", seed=3, most=5)])
    assert run(one, [job("another", seed=3, most=5)]) == expected


def test_some_choices_leave_before_they_have_begun() -> None:
    """The second prompt has no room in the first step's prefill; its client hangs up then."""
    one = lane()
    long = "x" * 700
    first, second = job(long, seed=1, most=3), job(long, seed=2, most=3)
    one.waiting.extend([first, second])
    with torch.no_grad():
        one.step()
        assert (one.running, second.choices[0].count) == (2, 0)
        second.gone = True
        one.step()
    assert all(choice.job is first for choice in one._inside)
    assert not one._schedule.queued
    run(one, [])
    assert first.over


@pytest.mark.parametrize("padded", [False, True])
def test_a_job_that_cannot_join_fails_alone(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if padded:
        monkeypatch.setattr(lanes, "why_padded", lambda policy, longest: "it is not proved")
    expected = run(lane(), [job(seed=1), job(seed=2)])
    one = lane()
    empty = job("")
    jobs = [job(seed=1), empty, job(seed=2)]
    one.waiting.extend(jobs)
    with torch.no_grad():
        told = one.step()
        assert [(whose, piece.finish) for whose, piece in told if whose is empty] == [
            (empty, FAILED)
        ]
    again = [job(seed=1), job("", n=2), job(seed=2)]
    assert run(one, again)[::2] == expected
    assert all(each.over for each in (jobs[0], jobs[2]))


def test_padded_batches_keep_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer has its prompt for itself: 8 prompts of 100 tokens, and 64 each to come."""
    monkeypatch.setattr(lanes, "why_padded", lambda policy, longest: "it is not proved")
    one = lane(rows=8, positions=8 * 164)
    assert one.fits_alone(100, 64, 8)
    assert not one.fits_alone(101, 64, 8)
    one.waiting.append(each := job("x" * 100, n=8, most=64))
    with torch.no_grad():
        while one.busy:
            one.step()
            assert one.bytes <= 8 * 164 * POSITION
    assert each.over


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 9e-6])
def test_a_tiny_temperature_is_greedy_and_harms_nobody(temperature: float) -> None:
    def jobs(cold: float) -> list[Job]:
        return [job(seed=1), job(seed=2, temperature=cold)]

    assert run(lane(), jobs(temperature)) == run(lane(), jobs(0.0))


class Heard:
    """A scheduler's thread over a lane; what it tells."""

    def __init__(self, one: Lane, queue: int = 8, idle: float = 20.0) -> None:
        self.told: list[Told] = []
        self.said: list[str] = []
        self.scheduler = Scheduler([one], queue, self.told.extend, self.said.append, idle)


def test_an_idle_server_gives_its_memory_back() -> None:
    one = lane()
    heard = Heard(one, idle=0.05)
    heard.scheduler.start()
    heard.scheduler.submit(one, each := job())
    until(lambda: each.over, "the answer")
    until(lambda: one.bytes == 0, "the memory's return")
    heard.scheduler.submit(one, again := job())
    until(lambda: again.over, "the next answer")
    heard.scheduler.close()
    heard.scheduler.join(10)
    assert not heard.scheduler.is_alive()


def test_a_full_queue_is_refused() -> None:
    one = lane(rows=1)
    heard = Heard(one, queue=2)  # its thread does not run
    for _ in range(2):
        heard.scheduler.submit(one, job())
    with pytest.raises(Refused, match="2 requests wait already") as caught:
        heard.scheduler.submit(one, job())
    assert (caught.value.status, caught.value.retry_after) == (429, 1)


def test_who_finds_free_rows_does_not_wait() -> None:
    one = lane(rows=4)
    heard = Heard(one, queue=0)  # its thread does not run
    heard.scheduler.submit(one, job(n=3))
    with pytest.raises(Refused, match="0 requests wait already"):
        heard.scheduler.submit(one, job(n=2))
    heard.scheduler.submit(one, job())
    with pytest.raises(Refused, match="0 requests wait already"):
        heard.scheduler.submit(one, job())


def test_a_step_that_fails_gives_up_its_batch_and_the_next_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = lane(rows=2)
    expected = run(lane(1), [job(seed=9)])
    heard = Heard(one)
    take, calls = lanes.Choice.take, []

    def fail_once(self: Any) -> Any:
        calls.append(self)
        if len(calls) == 4:
            raise MemoryError
        return take(self)

    monkeypatch.setattr(lanes.Choice, "take", fail_once)
    jobs = [job(seed=1, most=50), job(seed=2, most=50), job(seed=9)]
    for each in jobs:
        heard.scheduler.submit(one, each)
    heard.scheduler.start()
    until(lambda: jobs[2].over, "the third answer")
    heard.scheduler.close()
    heard.scheduler.join(10)
    failed = [whose for whose, piece in heard.told if piece.finish == FAILED]
    assert failed == jobs[:2]
    said = [piece.text for whose, piece in heard.told if whose is jobs[2]]
    assert ["".join(said)] == expected
    assert heard.said[0].startswith("a batch failed: MemoryError in ")


def test_pieces_arrive_in_the_loop_in_their_order() -> None:
    async def listen() -> str:
        one = lane()
        loop = asyncio.get_running_loop()

        def tell(told: list[Told]) -> None:
            loop.call_soon_threadsafe(
                lambda: [whose.pieces.put_nowait(piece) for whose, piece in told]
            )

        scheduler = Scheduler([one], 4, tell, lambda text: None)
        scheduler.start()
        scheduler.submit(one, each := job(seed=3, most=20))
        text = ""
        while True:
            piece = await each.pieces.get()
            text += piece.text
            if piece.finish is not None:
                scheduler.close()
                return text

    assert asyncio.run(listen()) == run(lane(), [job(seed=3, most=20)])[0]
