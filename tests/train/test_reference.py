from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.tiny import tiny_model

import palate.train.reference as caching
from palate.durable import hold
from palate.model.load import weights_hash
from palate.model.policy import Policy
from palate.model.score import score
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.parallel import ALONE, PeerFailed, Ranks
from palate.train.reference import cache_key, cached_reference
from palate.train.step import pack
from palate.train.task import Interrupted


def example(index: int, answer: int = 3) -> Rendered:
    prompt = [5] * 10 + [index]
    branches = tuple(
        Branch([*prompt, *[k + 1] * answer], [False] * 11 + [True] * answer) for k in range(2)
    )
    return Rendered(str(index), 11, branches)


EXAMPLES = [example(i) for i in range(6)]
FIVE = EXAMPLES[:5]


@contextmanager
def no_switch() -> Iterator[None]:
    yield


class Counting(Policy):
    """Counts the forwards, so that a test can tell reading from computing."""

    calls = 0

    def forward(self, forest: Any) -> Any:
        self.calls += 1
        return super().forward(forest)


def read(policy: Policy, folder: Path, examples: list[Rendered] = EXAMPLES) -> Any:
    return cached_reference(
        policy, no_switch, examples, folder, weights=weights_hash(policy.model), budget=40
    )


def test_values_are_those_of_the_policy_and_the_second_time_they_are_read(tmp_path: Path) -> None:
    policy = Counting(tiny_model())
    first = read(policy, tmp_path)
    computed = policy.calls
    assert computed > 0
    again = read(policy, tmp_path)
    assert policy.calls == computed
    for row, values in enumerate(score(policy, EXAMPLES, 40)):
        assert torch.equal(first.by_row[row], values)
        assert torch.equal(again.by_row[row], values)


class InStep(Ranks):
    """Alone, but as ranks that divide the weights."""

    parallel: Any = "fsdp"


class Meeting:
    """Where two ranks of one process exchange what they have."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.brought: dict[int, Any] = {}

    def exchange(self, rank: int, what: Any) -> list[Any]:
        self.brought[rank] = what
        self.barrier.wait()
        found = [self.brought[r] for r in range(2)]
        self.barrier.wait()
        return found


class OfTwo(InStep):
    """One of two ranks, each a thread with a disk of its own."""

    world = 2

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.meeting = rank, meeting

    def most(self, number: int) -> int:
        return max(self.meeting.exchange(self.rank, number))

    def gather(self, columns: Any) -> Any:
        return [
            torch.cat(parts)
            for parts in zip(*self.meeting.exchange(self.rank, columns), strict=True)
        ]

    def barrier(self) -> None:
        self.meeting.exchange(self.rank, None)


def in_step(policy: Policy, folder: Path, ranks: Ranks, told: list[int]) -> Any:
    return cached_reference(
        policy,
        no_switch,
        FIVE,
        folder,
        weights=weights_hash(policy.model),
        budget=20,
        advance=told.append,
        ranks=ranks,
    )


def test_ranks_that_divide_the_weights_make_as_many_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read costs none, and what is lacking is computed and written as ever."""
    monkeypatch.setattr(caching, "_SHARD_TOKENS", 1)  # a micro-batch each
    plain = in_step(Policy(tiny_model()), tmp_path / "other", ALONE, [])
    policy, told = Counting(tiny_model()), []
    first = in_step(policy, tmp_path, InStep(), told)
    passes = policy.calls
    assert passes >= 3
    assert sum(told) == len(FIVE)
    again = in_step(policy, tmp_path, InStep(), told)
    assert policy.calls == passes
    assert sum(told) == 2 * len(FIVE)
    shutil.rmtree(next(tmp_path.glob("*/shard-00001")))
    third = in_step(policy, tmp_path, InStep(), told)
    assert policy.calls == passes + 1
    assert sum(told) == 3 * len(FIVE)
    for found in (first, again, third):
        for left, right in zip(found.by_row, plain.by_row, strict=True):
            assert torch.equal(left, right)
    assert in_step(policy, tmp_path, ALONE, told).by_row
    assert policy.calls == passes + 1, "all shards are on the disk again"


def test_two_ranks_tell_each_other_and_each_machine_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five shards rank 0 computes three, and rank 1 two and a filler."""
    monkeypatch.setattr(caching, "_SHARD_TOKENS", 1)  # a micro-batch each
    plain = in_step(Policy(tiny_model()), tmp_path / "other", ALONE, [])
    assert len(list(tmp_path.glob("other/*/shard-*"))) == 5, "premise"
    policies = [Counting(tiny_model()) for _ in range(2)]

    def both() -> list[Any]:
        meeting = Meeting()
        with ThreadPoolExecutor(2) as pool:
            running = [
                pool.submit(in_step, policies[r], tmp_path / f"disk-{r}", OfTwo(r, meeting), [])
                for r in range(2)
            ]
            return [one.result() for one in running]

    for found in both():
        for left, right in zip(found.by_row, plain.by_row, strict=True):
            assert torch.equal(left, right)
    passes = [policy.calls for policy in policies]
    assert passes == [3, 3]
    both()
    assert [policy.calls for policy in policies] == passes, "each disk has all of it"
    shutil.rmtree(next((tmp_path / "disk-1").glob("*/shard-00002")))
    for found in both():
        assert torch.equal(found.by_row[2], plain.by_row[2])
    assert [policy.calls - before for policy, before in zip(policies, passes, strict=True)] == [
        1,
        1,
    ]


def test_a_rank_that_is_asked_to_stop_stops_all(tmp_path: Path) -> None:
    meeting, seen = Meeting(), {}

    def stop(count: int) -> None:
        raise Interrupted(None, tmp_path)

    def go(rank: int) -> None:
        policy = Policy(tiny_model())
        try:
            cached_reference(
                policy,
                no_switch,
                FIVE,
                tmp_path,
                weights="",
                budget=40,
                advance=stop if rank else lambda count: None,
                ranks=OfTwo(rank, meeting),
            )
        except (Interrupted, PeerFailed) as error:
            seen[rank] = str(error)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(go, range(2)))
    assert seen == {0: "", 1: "stopped outside training"}


def test_lookup_follows_the_micro_batch(tmp_path: Path) -> None:
    policy = Policy(tiny_model())
    found = read(policy, tmp_path)
    (micro,) = pack(EXAMPLES, [4, 1], [[1, 4]], share=True, device=torch.device("cpu"))
    assert torch.equal(found(micro), torch.cat([found.by_row[1], found.by_row[4]]))
    assert float((found(micro) - policy(micro.forest).token_logps_N).abs().max()) <= 1e-5


def test_a_killed_pass_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_SHARD_TOKENS", 12)  # two examples a shard
    policy = Counting(tiny_model())
    real = caching._write
    written = 0

    def dies(path: Path, found: Any) -> None:
        nonlocal written
        if written == 1:
            raise KeyboardInterrupt
        written += 1
        real(path, found)

    monkeypatch.setattr(caching, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        read(policy, tmp_path)
    monkeypatch.setattr(caching, "_write", real)
    before = policy.calls
    whole = read(Counting(tiny_model()), tmp_path / "other")
    resumed = read(policy, tmp_path)
    shards = len(list(next(tmp_path.glob("*/shard-00000")).parent.glob("shard-*")))
    assert shards >= 2
    assert policy.calls - before == shards - 1, "the first shard was not computed again"
    for left, right in zip(resumed.by_row, whole.by_row, strict=True):
        assert torch.equal(left, right)


def test_a_shard_that_another_run_computes_is_waited_for_and_read(tmp_path: Path) -> None:
    """The other run: holds the shard, writes it while we wait, lets go."""
    whole = read(Policy(tiny_model()), tmp_path / "other")
    done = next((tmp_path / "other").iterdir())
    home = tmp_path / "ours" / done.name
    home.mkdir(parents=True)
    other = hold(home / ".shard-00000.lock")
    assert other is not None
    waited: list[int] = []

    def advance(count: int) -> None:
        waited.append(count)
        if waited == [0, 0]:
            shutil.copytree(done / "shard-00000", home / "shard-00000")
            os.close(other)

    policy = Counting(tiny_model())
    found = cached_reference(
        policy,
        no_switch,
        EXAMPLES,
        tmp_path / "ours",
        weights=weights_hash(policy.model),
        budget=40,
        advance=advance,
    )
    assert policy.calls == 0
    assert waited[:2] == [0, 0]
    assert sum(waited) == len(EXAMPLES)
    for ours, theirs in zip(found.by_row, whole.by_row, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, damage: str) -> None:
    policy = Counting(tiny_model())
    first = read(policy, tmp_path)
    computed = policy.calls
    file = next(tmp_path.glob("*/shard-*/logps.safetensors"))
    body = bytearray(file.read_bytes())
    if damage == "flip":
        body[-3] ^= 1
        file.write_bytes(body)
    elif damage == "cut":
        file.write_bytes(body[:-4])
    else:
        file.unlink()
    again = read(policy, tmp_path)
    assert policy.calls > computed
    assert all(torch.equal(a, b) for a, b in zip(first.by_row, again.by_row, strict=True))


def test_the_key_holds_what_the_values_depend_on() -> None:
    policy = Policy(tiny_model())
    weights = weights_hash(policy.model)
    key = cache_key(EXAMPLES, weights, policy)
    assert key == cache_key([example(i) for i in range(6)], weights, Policy(tiny_model()))
    others = {
        "tokens": cache_key([*EXAMPLES[:5], example(7)], weights, policy),
        "truncation": cache_key([*EXAMPLES[:5], example(5, answer=2)], weights, policy),
        "mask": cache_key([_other_mask(EXAMPLES[0]), *EXAMPLES[1:]], weights, policy),
        "weights": cache_key(EXAMPLES, weights_hash(tiny_model(seed=1)), policy),
        "precision": cache_key(EXAMPLES, weights, Policy(tiny_model(), precision="bf16")),
        "layout": cache_key(EXAMPLES, weights, Policy(tiny_model(), layout="plain")),
        "order": cache_key(EXAMPLES[::-1], weights, policy),
    }
    assert len({key, *others.values()}) == 1 + len(others)


def _other_mask(one: Rendered) -> Rendered:
    first = one.branches[0]
    mask = [*first.mask]
    mask[-1] = False
    return replace(one, branches=(Branch(first.ids, mask), one.branches[1]))


def test_an_id_is_not_confused_with_a_neighbour() -> None:
    """[1, 2] + [3] and [1] + [2, 3] hold the same ids in another division."""
    left = Rendered("a", 1, (Branch([9, 1, 2], [False, True, True]), Branch([9, 3], [False, True])))
    right = Rendered(
        "a", 1, (Branch([9, 1], [False, True]), Branch([9, 2, 3], [False, True, True]))
    )
    policy = Policy(tiny_model())
    assert cache_key([left], "w", policy) != cache_key([right], "w", policy)


def test_a_changed_layout_version_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(tiny_model())
    before = cache_key(EXAMPLES, "w", policy)
    monkeypatch.setattr(caching, "LAYOUT_VERSION", caching.LAYOUT_VERSION + 1)
    assert cache_key(EXAMPLES, "w", policy) != before


def test_other_attention_kernels_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C++ kernels serve bf16 on a CPU only: fp32 is the same with and without a compiler."""

    def key(library: object, precision: str) -> str:
        built = SimpleNamespace(library=library)
        monkeypatch.setattr(caching, "native", lambda: built)
        return cache_key(EXAMPLES, "w", Policy(tiny_model(), precision=precision))  # type: ignore[arg-type]

    assert key(None, "bf16") != key(object(), "bf16")
    assert key(None, "fp32") == key(object(), "fp32")
