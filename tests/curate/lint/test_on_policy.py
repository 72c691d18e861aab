"""The share of answers that are the model's own: by name, and by what it finds likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.curate.lint.worlds import clean, examples

from palate.curate.lint import Finding, Number, TargetModel
from palate.curate.lint.on_policy import SCORED, _within, check
from palate.curate.lint.view import View
from palate.records import Example


def _pairs(sources: tuple[str | None, str | None]) -> list[Example]:
    return examples([replace(row, sources=sources) for row in clean(1)[:400]])[0]


def _seen(pairs: Sequence[Example], model: TargetModel) -> tuple[list[Number], list[Finding]]:
    found = list(check(View(pairs, None, model=model)))
    return (
        [one for one in found if isinstance(one, Number)],
        [one for one in found if isinstance(one, Finding)],
    )


def _model(own_share: float, seed: int = 0) -> TargetModel:
    """A model whose own answers have −1 ± 0.2 nats a token; of the data's so many do, else −3."""
    draw = np.random.default_rng(seed)

    def logprobs(asked: Sequence[Example]) -> list[list[float]]:
        return [
            [
                float(draw.normal(-1 if draw.random() < own_share else -3, 0.2))
                for _ in example.completions
            ]
            for example in asked
        ]

    def own(asked: Sequence[Example]) -> list[float]:
        return [float(draw.normal(-1, 0.2)) for _ in asked]

    return TargetModel("tiny", (), logprobs, own)


@pytest.mark.parametrize("own_share", [1.0, 0.6])
def test_answers_like_its_own_raise_nothing(own_share: float) -> None:
    numbers, findings = _seen(_pairs((None, None)), _model(own_share))
    # Of its own, 95 % lie above their 5 % quantile.
    assert numbers[0].value == pytest.approx(0.95 * own_share, abs=0.12)
    assert numbers[0].low <= 0.95 * own_share <= numbers[0].high
    assert numbers[0].of == 2 * SCORED
    assert findings == []


def test_answers_of_another_writer_are_found() -> None:
    pairs = _pairs((None, None))
    numbers, findings = _seen(pairs, _model(0.2))
    assert [found.check for found in findings] == ["on-policy"]
    assert numbers[0].high < 0.5
    assert findings[0].number == numbers[0]
    assert "tiny" in findings[0].sentence
    assert set(findings[0].examples) <= {pair.id for pair in pairs}


def test_the_least_likely_answers_are_named_first() -> None:
    pairs = _pairs((None, None))
    marked = {pair.id for pair in pairs[::4]}
    draw = np.random.default_rng(0)
    model = TargetModel(
        "tiny",
        (),
        lambda asked: [[-9.0, -9.0] if e.id in marked else [-3.0, -3.0] for e in asked],
        lambda asked: draw.normal(-1, 0.2, len(asked)).tolist(),
    )
    _, findings = _seen(pairs, model)
    assert set(findings[0].examples) <= marked


def test_few_own_samples_make_the_interval_wide() -> None:
    """The quantile of twenty samples is uncertain: the interval has to say so, on average."""

    def width(samples: int) -> float:
        total = 0.0
        for seed in range(6):
            draw = np.random.default_rng(seed)
            given = [draw.normal(-1, 0.2, 2) for _ in range(SCORED)]
            number = _within(given, draw.normal(-1, 0.2, samples), "tiny", seed)
            total += number.high - number.low
        return total / 6

    # Of 128 values, 95 % ± 2 · sqrt(0.95 · 0.05 / 128) = ± 4 points, with the quantile known.
    assert width(2000) == pytest.approx(0.08, abs=0.02)
    assert width(20) > 2.2 * width(2000)


def test_names_are_counted_and_unknown_writers_left_out() -> None:
    pairs = [*_pairs(("tiny-v2", "GPT-X"))[:100], *_pairs((None, None))[100:]]
    numbers, findings = _seen(pairs, TargetModel("tiny", ("tiny-v2", "runs/tiny")))
    assert [(n.check, n.value, n.of) for n in numbers] == [("source", 0.5, 200)]
    assert findings == []
    numbers, findings = _seen(pairs, TargetModel("tiny", ("other",)))
    assert numbers[0].value == 0
    assert [found.check for found in findings] == ["on-policy"]


def test_names_are_compared_in_any_letter_case() -> None:
    numbers, _ = _seen(_pairs(("TINY", "GPT-X")), TargetModel("tiny", ("Tiny",)))
    assert numbers[0].value == 0.5


def test_what_is_likely_outweighs_the_names() -> None:
    pairs = _pairs(("GPT-X", "GPT-X"))
    model = replace(_model(1.0), names=("tiny",))
    numbers, findings = _seen(pairs, model)
    assert [number.check for number in numbers] == ["source", "on-policy"]
    assert findings == []


def test_samples_without_a_value_are_left_out() -> None:
    pairs = _pairs((None, None))
    own = [float("nan"), *np.linspace(-1.2, -0.8, 63).tolist()]
    model = TargetModel("tiny", (), lambda asked: [[-1.0, -1.0] for _ in asked], lambda _: own)
    numbers, _ = _seen(pairs, model)
    assert numbers[0].value == 1.0
    silent = TargetModel("tiny", (), model.logprobs, lambda asked: [float("nan")] * len(asked))
    assert _seen(pairs, silent) == ([], [])
