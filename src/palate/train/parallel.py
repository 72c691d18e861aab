"""Several processes that train one model: who they are and what they tell each other.

`torchrun --nproc-per-node=N -m palate.cli train RECIPE` starts N of them, and `join` makes
them torch's process group. A process alone is `ALONE`, whose every exchange gives back what
it was given, so that the step and the loop are written once, for any number.

Tensors go through collectives, which all ranks must reach together and soon: within
`train.rank_timeout`. Waiting for what rank 0 does by itself (preparing data, sampling, shipping)
goes through the rendezvous store instead: it may take as long as rank 0 gives signs of life
(`palate.train.heartbeat`), and it carries the news that another rank has failed.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from palate.config import ConfigError
from palate.model.adapters import trainable
from palate.model.policy import Policy
from palate.model.sharding import Division, Kind, division
from palate.train.heartbeat import WITHOUT_A_WORD, Heartbeat, waited_too_long

T = TypeVar("T")
Parallel = Literal["none", "ddp", "fsdp", "hybrid"]

# Writing files may take longer. A rank that is gone is noticed at once even so.
_FILES_TIMEOUT = timedelta(hours=1)
_POLL_SECONDS = 0.05
_LINGER_SECONDS = 5.0
_BUCKET = 2**24  # numbers in one all-reduce of gradients: 64 MiB in fp32
# How often this process has joined: a run's stages do so in turn, each with words of its own.
_joined = itertools.count()
# Whether a run of several ranks has failed in this process.
_failed = False


class PeerFailed(Exception):
    """Another rank ended the run; the message is empty when that rank has said why itself."""


class Ranks:
    """One process alone. `join` gives its like for several."""

    rank = 0
    world = 1
    local = 0
    """Which of its machine's ranks this is."""
    parallel: Parallel = "none"
    files_group: Any = None
    """The process group in which ranks meet to write what is divided, beside the training."""

    @property
    def divided(self) -> bool:
        """Whether a rank holds only a part of the weights, from `wrap` on."""
        return self.parallel in {"fsdp", "hybrid"}

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that writes the run's folder and speaks."""
        return self.rank == 0

    def device(self, kind: str) -> str:
        """This rank's own device of a kind: `cuda` is `cuda:N` where N ranks share a machine."""
        return kind

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0 only; all ranks wait for it and get what it returned (JSON)."""
        return work()

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def moves(self) -> None:
        """Tell those who may be waiting at a barrier that this rank is getting on."""

    def sum(self, number: int) -> int:
        """The sum over ranks."""
        return number

    def most(self, number: int) -> int:
        """The largest over ranks."""
        return number

    def fillers(self, batches: int) -> int:
        """How many empty micro-batches this rank must run beside its own `batches`."""
        return 0

    def gather(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """Each column's rows of all ranks, rank after rank; ranks may differ in their number."""
        return list(columns)

    def wrap(self, policy: Policy) -> None:
        """Give all ranks the trained weights of rank 0, and shard them where that is wanted.

        What is divided already stays as it is. Weights that another rank knows by their shapes
        alone (`palate.model.load.outline`) are rank 0's then, on the device of `device`.
        """

    def add_gradients(self, weights: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over ranks."""


ALONE = Ranks()


def describe(world: int, parallel: str) -> str:
    """In words for people."""
    return "one process" if world == 1 else f"{world} ranks ({parallel})"


class _Many(Ranks):
    """One of several ranks in torch's default process group."""

    def __init__(self, parallel: Parallel, store: Store, timeout: float) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.local = int(os.environ.get("LOCAL_RANK", "0"))
        self.parallel = parallel
        # How many ranks divide the weights among themselves.
        self.sharing = _ranks_here() if parallel == "hybrid" else self.world
        self.store, self.timeout = store, timeout
        self.meetings = 0
        self.computes_on: str | None = None
        own = store.clone()  # type: ignore[attr-defined]  # torch's stub does not know it
        self.heartbeat = Heartbeat(own, self.rank, self.world, timeout)

    def device(self, kind: str) -> str:
        device = self.computes_on = own_device(kind, self.local)
        if kind == "cuda":
            torch.cuda.set_device(device)
        return device

    def on_main(self, work: Callable[[], T]) -> T:
        self.meetings += 1
        key = f"main/{self.meetings}"
        if self.is_main:
            self.store.set(key, json.dumps(work()))
        # Without end: rank 0 may work for hours, and while it does it gives signs of life.
        self._wait(lambda: self.store.check([key]))
        found: T = json.loads(self.store.get(key))
        return found

    def barrier(self) -> None:
        self.meetings += 1
        key = f"barrier/{self.meetings}"
        self.store.add(key, 1)
        self._wait(lambda: self.store.add(key, 0) == self.world, limited=True)

    def moves(self) -> None:
        self.store.add("moves", 1)

    def leave(self) -> None:
        """The last meeting: rank 0, which may hold the store, goes last."""
        self.heartbeat.stop()
        self.store.add("left", 1)
        if self.is_main:
            self._wait(lambda: self.store.add("left", 0) == self.world, limited=True)

    def sum(self, number: int) -> int:
        return self._reduced(number, dist.ReduceOp.SUM)

    def most(self, number: int) -> int:
        return self._reduced(number, dist.ReduceOp.MAX)

    def fillers(self, batches: int) -> int:
        # Shards are fetched and gradients reduced in each micro-batch, so that all ranks run as
        # many. Replicated ranks meet only after the last, and a rank without any needs one to
        # know the names of the metrics.
        wanted = self.most(batches) if self.divided else 1
        return max(0, wanted - batches)

    def gather(self, columns: Sequence[Tensor]) -> list[Tensor]:
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(columns[0])]))
        sizes = [int(count) for count in counts]
        return [self._gathered(column, sizes) for column in columns]

    def wrap(self, policy: Policy) -> None:
        if not self.divided:
            for weight in trainable(policy).values():
                dist.broadcast(weight.data, 0)
            return
        from palate.train.shard import divide, is_sharded

        if not is_sharded(policy):
            divide(policy, self, self.sharing, torch.device(self.computes_on or policy.device))
            self.files_group = dist.new_group(backend="gloo", timeout=_FILES_TIMEOUT)

    def add_gradients(self, weights: Iterable[Tensor]) -> None:
        if self.divided:  # summed as each micro-batch was reduced
            return
        for bucket in _buckets(weights):
            flat = torch.cat([grad.flatten() for grad in bucket])
            dist.all_reduce(flat)
            parts = flat.split([grad.numel() for grad in bucket])
            for grad, part in zip(bucket, parts, strict=True):
                grad.copy_(part.view_as(grad))

    def _gathered(self, column: Tensor, sizes: Sequence[int]) -> Tensor:
        widest = max(sizes)
        mine = column.new_zeros(widest, *column.shape[1:])
        mine[: len(column)] = column
        theirs = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(theirs, mine)
        return torch.cat([rows[:size] for rows, size in zip(theirs, sizes, strict=True)])

    def _reduced(self, number: int, how: Any) -> int:
        value = torch.tensor([number])
        dist.all_reduce(value, how)
        return int(value)

    def _wait(self, done: Callable[[], bool], *, limited: bool = False) -> None:
        """Until `done`; if `limited`, as long as some rank gets on within the time limit."""
        moves, since = -1, time.monotonic()
        while not done():
            if self.store.check(["failed"]):
                raise PeerFailed
            if limited and (now := self.store.add("moves", 0)) != moves:
                moves, since = now, time.monotonic()
            if limited and time.monotonic() - since > self.timeout:
                raise PeerFailed(waited_too_long(self.timeout))
            time.sleep(_POLL_SECONDS)

    def report(self, error: BaseException) -> BaseException:
        """Note that this rank has failed; returns what it should raise.

        The first to fail says why, and the others end in silence. A connection that broke
        without a word, as when a process is killed, is said by whoever notices first.
        """
        said = self._in_words(error)
        try:
            first = self.heartbeat.claim()
            self._linger()
        except (RuntimeError, OSError):  # the store went with the process that held it
            return said
        return said if first else PeerFailed()

    def _in_words(self, error: BaseException) -> BaseException:
        """The error itself, or what became of the connection that it is about."""
        if not _lost_connection(error):
            return error
        if "timed out" in str(error).lower():
            return PeerFailed(waited_too_long(self.timeout))
        return PeerFailed(WITHOUT_A_WORD)

    def _linger(self) -> None:
        """Let the others read the news: the store may end with this process."""
        self.store.add("left", 1)
        patience = time.monotonic() + min(_LINGER_SECONDS, self.timeout / 2)
        while self.is_main and self.store.add("left", 0) < self.world:
            if time.monotonic() > patience:
                return
            time.sleep(_POLL_SECONDS)


@contextmanager
def join(parallel: str, timeout: float = 600.0) -> Iterator[Ranks]:
    """The ranks that torchrun started, as one process group; `ALONE` without it.

    An exchange that takes longer than `timeout` seconds has lost a rank. Raises `ConfigError`
    where several processes are asked for and there is one. An error inside ends all ranks: the one
    that met it raises it, the others raise `PeerFailed`. A rank that cannot even do that, because
    it stands still, is ended (`palate.train.heartbeat`).
    """
    global _failed  # noqa: PLW0603 the process has one fate
    if "RANK" not in os.environ and parallel != "auto":
        raise ConfigError(
            f"train.parallel is {parallel}, but there is one process: start several with "
            "torchrun --nproc-per-node=N -m palate.cli train RECIPE, or set train.parallel=auto"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    limit = timedelta(seconds=timeout)
    kind = _checked(parallel, int(os.environ["WORLD_SIZE"]))
    store, rank, world = _rendezvous(limit)
    number = next(_joined)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore(f"group/{number}", store),
        rank=rank,
        world_size=world,
        timeout=limit,
    )
    ranks = _Many(kind, PrefixStore(f"palate/{number}", store), timeout)
    ranks.heartbeat.start()
    try:
        yield ranks
        ranks.leave()
    except BaseException as error:
        _failed = True
        said = ranks.report(error)
        if said is error:
            raise
        raise said from error
    # After an error the group is left to the end of the process: with a rank gone, taking it
    # down in order would wait for that rank.
    dist.destroy_process_group()


def _checked(parallel: str, world: int) -> Parallel:
    """The manner that is asked for; raises `ConfigError` where the ranks do not allow it."""
    if parallel == "fsdp":
        return "fsdp"
    if parallel != "hybrid":
        return "ddp"
    here = _ranks_here()
    if here == 1 or world % here:
        raise ConfigError(
            f"train.parallel hybrid divides the weights over the ranks of each machine, and there "
            f"are {here} of {world} here: start equally many on each, more than one, or use "
            f"{'ddp' if here == 1 else 'fsdp'}"
        )
    return "hybrid"


def _ranks_here() -> int:
    """The ranks on this machine, as torchrun counts them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))


def how_divided(parallel: Parallel, world: int) -> Division:
    """The division of a run's weights over its ranks; for runs that divide them."""
    assert parallel in {"fsdp", "hybrid"}, "other runs divide nothing"
    kind: Kind = "hybrid" if parallel == "hybrid" else "fsdp"
    return division(kind, world, _ranks_here() if kind == "hybrid" else world)


def end_for_sure(code: int) -> None:
    """End the process with this code, if a run of several ranks has failed in it.

    The interpreter's own end would wait for exchanges with a rank that is gone, and for threads
    that do. After a good end, and of a process alone, nothing is done.
    """
    if not _failed:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@functools.cache
def _rendezvous(timeout: timedelta) -> tuple[Store, int, int]:
    """The store, rank and number of ranks: one store, however often the process joins."""
    found: tuple[Store, int, int] = next(iter(rendezvous("env://", timeout=timeout)))
    return found


def own_device(kind: str, local: int) -> str:
    """The device of the `local`-th rank of a machine; raises `ConfigError` if it has none."""
    if kind not in {"cpu", "cuda"}:
        raise ConfigError(f"train.device {kind} is one device, for several ranks: use auto")
    if kind == "cpu":
        return kind
    count = torch.cuda.device_count()
    if local >= count:
        raise ConfigError(f"there are more ranks here than GPUs: use --nproc-per-node={count}")
    return f"cuda:{local}"


def _buckets(weights: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in groups of a bounded size; one that is missing is zero."""
    bucket: list[Tensor] = []
    room = _BUCKET
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if bucket and weight.numel() > room:
            yield bucket
            bucket, room = [], _BUCKET
        bucket.append(weight.grad)
        room -= weight.numel()
    if bucket:
        yield bucket


def _lost_connection(error: BaseException) -> bool:
    words = ("gloo", "Connection closed by peer", "NCCL", "Broken pipe", "Connection reset")
    distributed = isinstance(error, dist.DistError)
    return distributed or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
