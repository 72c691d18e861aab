"""Supervised fine-tuning: maximum likelihood of demonstrations."""

from __future__ import annotations

from dataclasses import dataclass

from palate.losses.batch import Context, Demonstrations, LossOutput


@dataclass(frozen=True, slots=True)
class SFT:
    """Parameters of `sft`: none."""


def sft(batch: Demonstrations, params: SFT, context: Context) -> LossOutput:
    """−Σ_t log π(y_t), in nats, shape [B].

    Declared `normalise="tokens"`: the step divides by the supervised tokens of the whole
    optimizer step, so that the loss is the mean over tokens whatever the cut into
    micro-batches.
    """
    logp_B = batch.completion.logp_B
    return LossOutput(loss_B=-logp_B, metrics={"logp": logp_B.detach()})
