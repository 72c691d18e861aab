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
from dataclasses import dataclass
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
    files = Files(home, policy, examples, shards)
    if ranks.divided:
        from palate.train.in_step import values_in_step

        with switch():
            by_row = values_in_step(files, advance, ranks)
    else:
        by_row = _values(files, switch, advance, ranks)
    with _turn(home / "complete", ranks, lambda: advance(0)):
        if ranks.is_main and not (home / "complete.json").is_file():
            write_json(home / "complete.json", {"shards": len(shards), "examples": len(examples)})
    return ReferenceLogps([by_row[row] for row in range(len(examples))])


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one cache: `shards` are each one's rows, by micro-batch."""

    home: Path
    policy: Policy
    examples: Sequence[Rendered]
    shards: Sequence[list[list[int]]]

    def path(self, number: int) -> Path:
        """Where a file is: a folder with its checksums."""
        return self.home / f"shard-{number:05d}"

    def rows(self, number: int) -> list[int]:
        """All rows of a file, in its order."""
        return [row for cut in self.shards[number] for row in cut]

    def read(self, number: int) -> dict[int, Tensor] | None:
        """The values by row, or None where the file is absent or damaged."""
        return _read(self.path(number), self.examples, self.shards[number])

    def write(self, number: int, found: dict[int, Tensor]) -> None:
        """Write a file's values."""
        _write(self.path(number), found)

    def compute(self, number: int) -> dict[int, Tensor]:
        """Compute a file's values and write them; the policy must be the reference now."""
        found: dict[int, Tensor] = {}
        for rows in self.shards[number]:
            found.update(score_rows(self.policy, self.examples, rows))
        self.write(number, found)
        return found


def _values(
    files: Files,
    switch: Callable[[], AbstractContextManager[None]],
    advance: Callable[[int], None],
    ranks: Ranks,
) -> dict[int, Tensor]:
    """The values by row; each rank computes its part of the files, and then reads them all."""

    def values(number: int) -> dict[int, Tensor]:
        found = files.read(number)
        if found is not None:
            return found
        with _turn(files.path(number), ranks, lambda: advance(0)):
            found = files.read(number)  # another run may have computed it meanwhile
            if found is not None:
                return found
            with switch():
                return files.compute(number)

    count = len(files.shards)
    for number in range(ranks.rank, count, ranks.world) if ranks.world > 1 else ():
        values(number)
        ranks.moves()
    ranks.barrier()
    by_row: dict[int, Tensor] = {}
    for number in range(count):
        by_row.update(values(number))
        advance(len(files.rows(number)))
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
