"""Maximum likelihood: of demonstrations (sft) and of plain text (pretrain)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from palate.losses.batch import Context, Demonstrations, LossOutput
from palate.losses.method import Method, Online


@dataclass(frozen=True, slots=True)
class SFT:
    """Parameters of `sft` and `pretrain`: none."""


def sft(batch: Demonstrations, params: SFT, context: Context) -> LossOutput:
    """−Σ_t log π(y_t), in nats, shape [B].

    Declared `normalise="tokens"`: the step divides by the supervised tokens of the whole
    optimizer step, so that the loss is the mean over tokens whatever the cut into
    micro-batches.
    """
    logp_B = batch.completion.logp_B
    return LossOutput(loss_B=-logp_B, metrics={"logp": logp_B.detach()})


METHOD = Method(
    name="sft",
    title="Supervised fine-tuning",
    formula="−Σ_t log π(y_t) / tokens of the step",
    paper="maximum likelihood; no paper of its own",
    shape="demonstration",
    params=SFT,
    loss=sft,
    reference=False,
    normalise="tokens",
    when="Demonstrations of good answers, or a base that never does what is wanted.",
    peers="The same everywhere, save that some average over micro-batches of unequal length.",
)
PRETRAIN = Method(
    name="pretrain",
    title="Continued pretraining on plain text",
    formula="−Σ_t log π(x_t) / tokens of the step",
    paper="maximum likelihood; no paper of its own",
    shape="text",
    params=SFT,
    loss=sft,
    reference=False,
    normalise="tokens",
    when="Documents of a domain whose words the model does not know.",
    peers="Others join documents into rows of equal length, across whose borders tokens attend to "
    "another document's; here each stretch is a root of its own, packed without padding.",
)
REJECTION = replace(
    METHOD,
    name="rejection-sampling",
    title="Rejection sampling",
    formula="−Σ_t log π(y*_t) / tokens of the step, y* the best of n own samples",
    paper="Dong et al. 2023 (RAFT), arXiv 2304.06767; Touvron et al. 2023, arXiv 2307.09288, §3.2",
    online=Online(least=2),
    when="The plainest way to learn from a judge: imitate the best of n.",
    defaults="rollout.answers is n; rollout.passing keeps only answers that the judge passes.",
    peers="Llama 2 and RAFT as here; it is sft with a rollout.",
)
