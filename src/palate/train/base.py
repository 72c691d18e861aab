"""What a run starts from: its weights, in 4 bits where the recipe says so, and their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import nn

from palate.config import ConfigError, RunConfig
from palate.model.load import Loaded, load, outline, weights_hash
from palate.model.nf4 import describe_nf4, require_nf4, to_nf4
from palate.model.saved_adapter import adapter_hash
from palate.train.folder import Plan
from palate.train.parallel import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Base:
    """The loaded model, before anything of ours is put into it.

    On its device; of ranks that divide the weights, on rank 0's host and nowhere else.

    `sha256` is the hash of the weights in fp32, as the file has them; `reference_sha256` covers
    all that the reference computes with: the same weights, or their 4-bit codes, and a saved
    adapter's. `quantised` counts the weights that are kept in 4 bits.
    """

    loaded: Loaded
    parameters: int
    quantised: int
    sha256: str
    reference_sha256: str


def load_base(config: RunConfig, device: str, ranks: Ranks = ALONE) -> Base:
    """Load the recipe's model onto the device; raises `ConfigError` for what is missing.

    Of ranks that will divide the weights, rank 0 loads them into its host's memory, and the
    others learn their shapes alone: `Ranks.wrap` gives each its part. Weights in 4 bits are
    loaded by every rank.
    """
    path, trust = config.model.path, config.model.trust_remote_code
    in_4_bits = config.model.quantize == "nf4"
    if in_4_bits:
        require_nf4()
    saved = adapter_hash(config.adapter.path) if config.adapter.path else None
    from_main = ranks.divided and not in_4_bits
    if from_main and not ranks.is_main:
        loaded = outline(path, trust_remote_code=trust)
    else:
        # Layers go to the device one by one when they are quantised or divided: in full, only the
        # host holds them.
        first = "cpu" if in_4_bits or from_main else device
        loaded = load(path, trust_remote_code=trust, device=first)
    sha256 = (
        ranks.on_main(lambda: weights_hash(loaded.model))
        if from_main
        else weights_hash(loaded.model)
    )
    parameters = sum(p.numel() for p in loaded.model.parameters())
    reference, quantised = [sha256], 0
    if in_4_bits:
        quantised = to_nf4(loaded.model, device)
        nn.Module.to(loaded.model, device)
        reference = [weights_hash(loaded.model), describe_nf4()]
    if saved is not None:
        reference.append(saved)
    named = sha256 if len(reference) == 1 else _digest(reference)
    return Base(loaded, parameters, quantised, sha256, named)


def check_same(base: Base, plan: Plan, config: RunConfig, folder: object) -> None:
    """Raise `ConfigError` where a continued run would go on from something else."""
    cure = "bring them back, or start anew with another name=NAME"
    if plan.base_sha256 != base.sha256:
        raise ConfigError(
            f"{config.model.path} holds other weights than when {folder} was started: {cure}"
        )
    if plan.reference_sha256 not in {"", base.reference_sha256}:
        changed = " or ".join(
            what
            for what, there in (
                ("the adapter in adapter.path", config.adapter.path),
                ("the version of bitsandbytes", base.quantised),
            )
            if there
        )
        raise ConfigError(
            f"{changed or 'the reference'} is not what it was when {folder} was started: {cure}"
        )


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
