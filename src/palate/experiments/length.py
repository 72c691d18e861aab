"""What does a taste of the annotators for long answers cost?

Answers end by themselves here. Annotators prefer by the true reward, in which length is worth
nothing, plus so much for each token; what is measured is the true reward, and the length.
Source: arXiv 2403.19159.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.curate.lint.findings import NOTE_ABOVE, WARNING_ABOVE
from palate.evaluate.findings import length as length_finding
from palate.experiments.data import Pairs
from palate.experiments.experiment import Experiment
from palate.experiments.figures import Mean, Measure, last
from palate.experiments.ground import FULL_ENDS, KL, REDUCED_ENDS, REWARD, SHARE, Ground, Scale
from palate.experiments.learner import table
from palate.experiments.runs import Case, Point
from palate.model.policy import Policy

TASTES = (0.0, 0.25, 0.5, 1.0)
_SHARE = 0.5  # of the scale's pairs


def cases(scale: Scale) -> list[Case]:
    """DPO and five that mind length; the penalty of length-dpo is told the taste."""

    def params(method: str, taste: float) -> Mapping[str, Any]:
        if method == "length-dpo":
            return {"beta": 0.5, "alpha": taste}
        given: dict[str, Mapping[str, Any]] = {
            "ln-dpo": {"beta": 2.0},
            "simpo": {"beta": 2.0},
            "ld-dpo": {"beta": 0.5, "alpha": 0.5},
        }
        return given.get(method, {"beta": 0.5})

    def case(line: str, taste: float) -> Case:
        def run(on: Ground, seed: int) -> list[Point]:
            pairs = _pairs(on, seed, taste, balanced=line == "dpo, as often the shorter")
            method = line.split(",", maxsplit=1)[0]
            policy = on.train(method, params(method, taste), pairs, seed)
            return [{"taste": taste, **_stands(on, pairs, policy)}]

        return Case(line, f"{line}, {taste:g} a token", run)

    lines = ("dpo", "ln-dpo", "ld-dpo", "simpo", "length-dpo", "dpo, as often the shorter")
    return [case(line, taste) for line in lines for taste in TASTES]


def _pairs(ground: Ground, seed: int, taste: float, *, balanced: bool) -> Pairs:
    """Balanced: of those whose longer answer won, as many are left as the shorter won."""
    count = round(_SHARE * ground.scale.pairs)
    judged = ground.world.rewards + taste * ground.world.tokens_A
    pairs = ground.pairs(seed, count, judged=judged)
    if not balanced:
        return pairs
    tokens = ground.world.tokens_A
    gap = tokens[pairs.chosen] - tokens[pairs.rejected]
    longer, shorter = (gap > 0).nonzero()[:, 0], (gap < 0).nonzero()[:, 0]
    most = min(len(longer), len(shorter))
    kept = [*longer[:most].tolist(), *shorter[:most].tolist(), *(gap == 0).nonzero()[:, 0].tolist()]
    rows = sorted(kept)
    return Pairs(pairs.prompt[rows], pairs.chosen[rows], pairs.rejected[rows])


def _stands(ground: Ground, pairs: Pairs, policy: Policy) -> Point:
    logps = table(policy, ground.world)
    tokens = ground.world.tokens_A
    before, after = (float((one.exp() * tokens).sum(1).mean()) for one in (ground.reference, logps))
    drift = after / before - 1
    said = length_finding(
        {"before": {"tokens": before}, "after": {"tokens": after}, "tokens_change": drift}
    )
    gap = tokens[pairs.chosen] - tokens[pairs.rejected]
    longer = float((gap > 0).sum() / (gap != 0).sum())
    return {
        "tokens": after,
        "drift": drift,
        "alarm": float(said is not None and said.level == "alarm"),
        "longer": longer,
        "noted": float(longer > NOTE_ABOVE),
        "warned": float(longer > WARNING_ABOVE),
        "pairs": float(len(pairs)),
        **ground.stands(logps),
    }


def concluded(found: Sequence[Mean]) -> Mapping[str, Any]:
    """Of each line: what the strongest taste costs of the reward, and by how much answers grow."""
    by_line: dict[str, list[Mean]] = {}
    for one in last(found):
        by_line.setdefault(one.line, []).append(one)
    return {
        line: {
            "tokens": round(some[-1].value("tokens") - some[0].value("tokens"), 4),
            "reward": round(some[-1].value("reward") - some[0].value("reward"), 4),
        }
        for line, some in by_line.items()
    }


TOKENS = Measure("tokens", "tokens of an answer")
EXPERIMENT = Experiment(
    name="length",
    cases=cases,
    x=Measure("taste", "taste for a token more, nats"),
    ys=[TOKENS, REWARD, SHARE],
    told=[
        Measure("longer", "the longer won", percent=True, digits=1),
        TOKENS,
        KL,
        REWARD,
        SHARE,
        Measure("alarm", "runs with the alarm", percent=True, digits=1),
    ],
    found=concluded,
    full=FULL_ENDS,
    reduced=REDUCED_ENDS,
)
