"""The reference's log-probs: computed once, kept on disk, and never served stale.

The cache's key holds everything the values depend on: the token ids and masks, the
reference's weights, the compute precision, the layout and its version, the kind of
device and of attention kernels. It does not hold β, the loss or the run's folder, so
changing those costs nothing. Values are per token in fp32, so that a log-ratio is a sum of
per-token differences and is exactly 0 where the policy equals the reference.

Shards are written as they are computed, each with a checksum; the manifest comes last.
A killed pass goes on where it stopped, and a damaged shard is computed again. Of several runs
that need the same shard at once, one computes it and the others wait for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.config import ConfigError
from palate.durable import Damaged, commit_folder, turn, verify_folder, write_json
from palate.losses.method import Method
from palate.model.native.build import native
from palate.model.policy import Ask, BranchLogps, Policy
from palate.model.score import score_rows, supervised_tokens
from palate.model.statistics import Distribution
from palate.tokens.render import Rendered
from palate.tokens.sampler import cut
from palate.tokens.tree import MIN_SHARED, WORTH, to_device
from palate.train.parallel import ALONE, Ranks
from palate.train.shapes import MicroBatch

# Raised whenever the same inputs would give other bits: attention, layout, head.
LAYOUT_VERSION = 4
_SHARD_TOKENS = 32_768


class ReferenceLogps:
    """log π_ref of every supervised token of every example, in memory."""

    def __init__(self, by_row: Sequence[Tensor]) -> None:
        self.by_row = list(by_row)

    def __call__(self, micro: MicroBatch) -> Tensor:
        """Values [N] in the order of the micro-batch's forest."""
        values = torch.cat([self.by_row[row] for row in micro.rows])
        return to_device(values, micro.forest.ids_T.device)


class LiveReference:
    """Computes the reference at every step: the same model with adapters off, or a frozen copy."""

    def __init__(
        self, reference: Policy, switch: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.reference = reference
        self.switch = switch

    @torch.no_grad()
    def __call__(self, micro: MicroBatch) -> Tensor:
        """Values [N] in the order of the micro-batch's forest, without gradient."""
        with self.switch():
            found: BranchLogps = self.reference(micro.forest)
        return found.token_logps_N

    @torch.no_grad()
    def distribution(self, micro: MicroBatch) -> tuple[Tensor, Distribution]:
        """The log-probs [N], and the whole distribution at the rows that reach the head."""
        with self.switch():
            found: BranchLogps = self.reference(micro.forest, Ask(hidden=True))
        assert found.hidden_HD is not None, "they were asked for"
        plain = self.reference.distribution(found.hidden_HD)

        def head(rows: Tensor) -> Tensor:
            with self.switch():  # the policy's backward pass may be running
                return plain.head(rows)

        return found.token_logps_N, Distribution(found.hidden_HD, head)


def reference_mode(wanted: str, method: Method) -> Literal["cached", "live", "moving"]:
    """How a recipe's `train.reference` is met; raises `ConfigError` where it cannot be.

    `auto` is the cache, unless the method needs more than it holds.
    """
    if method.reference and method.live_only and wanted == "cached":
        raise ConfigError(
            f"{method.name} cannot be trained with a cached reference, because "
            f"{method.live_only}: leave train.reference out, or set it to live"
        )
    if method.moving is not None:
        return "moving"
    return "live" if wanted == "live" or method.live_only else "cached"


def cache_key(examples: Sequence[Rendered], weights: str, policy: Policy) -> str:
    """SHA-256 of everything the values depend on, in hex."""
    sha = hashlib.sha256()
    facts = {
        "weights": weights,
        "precision": policy.precision,
        "layout": policy.layout,
        "layout_version": LAYOUT_VERSION,
        "min_shared": [MIN_SHARED, WORTH],
        "device": policy.device.type,
        "attention": _attention(policy),
        "fused": policy.fused,
        "compiled": policy.blocks is not None and policy.blocks.compiled,
        "config": _without_names(policy.model.config.to_dict()),
        "versions": [torch.__version__, transformers.__version__],
    }
    sha.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for example in examples:
        for branch in example.branches:
            ids = torch.tensor(list(branch.ids), dtype=torch.int64)
            mask = torch.tensor(list(branch.mask), dtype=torch.uint8)
            sha.update(len(ids).to_bytes(8, "little"))
            sha.update(ids.numpy().tobytes())
            sha.update(mask.numpy().tobytes())
        sha.update(b"|")
    return sha.hexdigest()


def cached_reference(
    policy: Policy,
    switch: Callable[[], AbstractContextManager[None]],
    examples: Sequence[Rendered],
    folder: Path,
    *,
    weights: str,
    budget: int,
    advance: Callable[[int], None] = lambda count: None,
    ranks: Ranks = ALONE,
) -> ReferenceLogps:
    """Read the cache below `folder`, computing and writing what is not there.

    `weights` is the hash of the reference's weights; `advance` is told how many examples
    are done. Several ranks compute a part of the shards each, and then read them all; what
    another rank wrote elsewhere, on a disk of its own, is computed again. Ranks that divide the
    weights compute in step, and tell each other what they found.
    """
    home = folder / cache_key(examples, weights, policy)[:32]
    share = policy.layout == "tree"
    shards = _shards(examples, cut(examples, range(len(examples)), budget, share=share))

    def read(number: int) -> dict[int, Tensor] | None:
        return _read(home / f"shard-{number:05d}", examples, shards[number])

    def computed(number: int) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        with switch():
            for rows in shards[number]:
                found.update(score_rows(policy, examples, rows))
        _write(home / f"shard-{number:05d}", found)
        return found

    def values(number: int) -> dict[int, Tensor]:
        found = read(number)
        if found is not None:
            return found
        with _turn(home / f"shard-{number:05d}", ranks, lambda: advance(0)):
            found = read(number)  # another run may have computed it meanwhile
            return computed(number) if found is None else found

    by_row: dict[int, Tensor] = {}
    if ranks.divided:
        by_row = _in_step(policy, examples, shards, read, computed, advance, ranks)
    else:
        for number in range(ranks.rank, len(shards), ranks.world) if ranks.world > 1 else ():
            values(number)
            ranks.moves()
        ranks.barrier()
        for number, cuts in enumerate(shards):
            by_row.update(values(number))
            advance(sum(len(rows) for rows in cuts))
    with _turn(home / "complete", ranks, lambda: advance(0)):
        if ranks.is_main and not (home / "complete.json").is_file():
            write_json(home / "complete.json", {"shards": len(shards), "examples": len(examples)})
    return ReferenceLogps([by_row[row] for row in range(len(examples))])


def _in_step(
    policy: Policy,
    examples: Sequence[Rendered],
    shards: Sequence[list[list[int]]],
    read: Callable[[int], dict[int, Tensor] | None],
    computed: Callable[[int], dict[int, Tensor]],
    advance: Callable[[int], None],
    ranks: Ranks,
) -> dict[int, Tensor]:
    """The values by row, where no rank can compute without the others.

    What some rank has not on its disk is divided among all. Each pass gathers weights, so that a
    rank with fewer makes up for it by passes over its first example.
    """
    from palate.train.shard import give_up_gathered

    by_row: dict[int, Tensor] = {}
    lacks = torch.zeros(len(shards), dtype=torch.int64)
    for number in range(len(shards)):
        found = read(number)
        lacks[number] = found is None
        by_row.update(found or {})
    (lacked,) = ranks.gather([lacks])
    wanted = lacked.view(ranks.world, -1).any(0).nonzero()[:, 0].tolist()
    if not wanted:
        advance(len(examples))
        return by_row
    rows = {number: [row for cut in shards[number] for row in cut] for number in wanted}
    advance(len(examples) - sum(len(some) for some in rows.values()))
    own = wanted[ranks.rank :: ranks.world]
    mine: list[Tensor] = []
    passes = sum(len(shards[number]) for number in own)
    fillers = ranks.most(passes) - passes
    for place, number in enumerate(own):
        found = computed(number)
        mine += [found[row] for row in rows[number]]
        advance(sum(len(rows[n]) for n in wanted[place * ranks.world : (place + 1) * ranks.world]))
    for _ in range(fillers):
        score_rows(policy, examples, [0])
    (together,) = ranks.gather([torch.cat([torch.empty(0), *mine])])
    order = [row for r in range(ranks.world) for n in wanted[r :: ranks.world] for row in rows[n]]
    sizes = [supervised_tokens(examples[row]) for row in order]
    by_row.update(zip(order, (part.clone() for part in together.split(sizes)), strict=True))
    give_up_gathered(policy)
    return by_row


def _turn(path: Path, ranks: Ranks, waiting: Callable[[], None]) -> AbstractContextManager[None]:
    """Runs at the same time, as of a sweep, compute a shard once and write it in turn.

    Not where several ranks train one model: two such runs, each of whose ranks holds a shard
    that the other waits for, would wait for ever.
    """
    if ranks.world > 1:
        return nullcontext()
    return turn(path.with_name(f".{path.name}.lock"), waiting)


def _attention(policy: Policy) -> str:
    """Which kernel attends: the plan's, ours where this machine could build it, or torch's."""
    if policy.kernel is not None:
        return getattr(policy.kernel, "__name__", "")
    served = policy.layout == "tree" and policy.precision == "bf16" and policy.device.type == "cpu"
    return "native" if served and native().library is not None else "tiled"


def _without_names(config: dict[str, Any]) -> dict[str, Any]:
    """What a model's config says about arithmetic: not where it came from or who wrote it."""
    names = {"_name_or_path", "transformers_version", "_attn_implementation", "dtype"}
    return {key: value for key, value in config.items() if key not in names}


def _shards(examples: Sequence[Rendered], cuts: list[list[int]]) -> list[list[list[int]]]:
    """Consecutive micro-batches joined into files of a sensible size."""
    shards: list[list[list[int]]] = []
    room = 0
    for rows in cuts:
        tokens = sum(supervised_tokens(examples[row]) for row in rows)
        if not shards or tokens > room:
            shards.append([])
            room = _SHARD_TOKENS
        shards[-1].append(rows)
        room -= tokens
    return shards


def _write(path: Path, found: dict[int, Tensor]) -> None:
    tensors = {str(row): values for row, values in found.items()}
    commit_folder(path, lambda to: save_file(tensors, to / "logps.safetensors"), {}, shared=True)


def _read(
    path: Path, examples: Sequence[Rendered], cuts: list[list[int]]
) -> dict[int, Tensor] | None:
    """A shard's values, or None where it is absent, damaged or of another cut."""
    if not path.is_dir():
        return None
    try:
        verify_folder(path)
        read = load_file(path / "logps.safetensors")
    except (Damaged, FileNotFoundError):  # the second: another run is replacing it
        return None
    stored = {int(name): tensor for name, tensor in read.items()}
    rows = [row for group in cuts for row in group]
    if set(stored) != set(rows):
        return None
    if any(len(stored[row]) != supervised_tokens(examples[row]) for row in rows):
        return None
    return stored
