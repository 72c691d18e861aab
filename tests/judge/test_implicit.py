"""The implicit reward of a policy is β times the log-ratio that transformers computes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.judge.worlds import answered, asked_again, question, trained_to_ask
from tests.tiny import byte_tokenizer, save_tiny
from transformers import AutoModelForCausalLM

from palate.judge.build import build_pair_judge, build_scorer, identity
from palate.judge.implicit import ImplicitScorer, Sides, sides_of
from palate.judge.opinion import Question
from palate.model import place
from palate.sections import JudgeConfig
from palate.store.snapshot import read_snapshot


def config(**settings: Any) -> JudgeConfig:
    return JudgeConfig.model_validate({"kind": "implicit", "device": "cpu", **settings})


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 on every machine, to be compared with transformers."""
    monkeypatch.setattr(place, "fast_bf16", lambda: False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random models with the same tokens: a policy, and what it might have moved from."""
    home = tmp_path_factory.mktemp("models")
    return {
        "model": save_tiny(home / "policy", seed=1),
        "reference": save_tiny(home / "reference", seed=0),
    }


@pytest.fixture
def both(models: dict[str, Path]) -> dict[str, str]:
    return {name: str(folder) for name, folder in models.items()}


def log_prob(folder: str, text: str, *, finished: bool = True) -> float:
    """Σ log π of the answer's bytes and of its end, by transformers."""
    tokenizer: Any = byte_tokenizer()
    before = [{"role": "user", "content": "Where is my parcel?"}]
    prompt = tokenizer.apply_chat_template(before, add_generation_prompt=True, tokenize=False)
    begun = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(text + ("<|end|>" if finished else ""), add_special_tokens=False)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([begun + said])).logits[0]
    logps = logits.log_softmax(-1)[len(begun) - 1 : -1]
    return float(logps.gather(1, torch.tensor(said)[:, None]).sum())


def reward(both: dict[str, str], text: str, beta: float, *, finished: bool = True) -> float:
    mine = log_prob(both["model"], text, finished=finished)
    return beta * (mine - log_prob(both["reference"], text, finished=finished))


def test_scores_are_beta_times_the_log_ratio(both: dict[str, str]) -> None:
    texts = ["It is on its way.", "No.", "We look into it and write to you today."]
    with build_scorer(config(**both, beta=0.3)) as judge:
        scores = judge.score([answered(text) for text in texts])
        (cut,) = judge.score([answered("It is on", finished=False)])
    expected = [reward(both, text, 0.3) for text in texts]
    assert [s.value for s in scores] == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 3
    assert cut.value == pytest.approx(reward(both, "It is on", 0.3, finished=False), abs=1e-4)


def test_a_comparison_is_bradley_terrys(both: dict[str, str]) -> None:
    difference = reward(both, "Yes.", 0.1) - reward(both, "Perhaps not.", 0.1)
    with build_pair_judge(config(**both)) as judge:
        (opinion,) = judge.compare([question("Yes.", "Perhaps not.")])
    assert opinion.first_wins == pytest.approx(1 / (1 + math.exp(-difference)), abs=1e-4)


def test_a_policy_that_has_not_moved_knows_nothing(both: dict[str, str]) -> None:
    with build_scorer(config(model=both["model"], reference=both["model"])) as judge:
        (score,) = judge.score([answered("Yes.")])
    assert score.value == 0


def test_what_cannot_be_rendered_is_a_failure(both: dict[str, str]) -> None:
    with build_scorer(config(**both)) as judge:
        control, fine = judge.score([answered("<|end|>"), answered("Yes.")])
    assert control.value is None
    assert "control token" in (control.failure or "")
    assert fine.value == pytest.approx(reward(both, "Yes.", 0.1), abs=1e-4)


def test_the_reference_must_be_known_and_have_the_same_tokens(
    both: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is no run, so the judge needs reference"):
        ImplicitScorer(config(model=both["model"]))
    other = save_tiny(tmp_path / "other")
    added = byte_tokenizer()
    added.add_tokens(["hello"])
    added.save_pretrained(other)
    with pytest.raises(ValueError, match="have other tokens"):
        ImplicitScorer(config(model=both["model"], reference=str(other)))


def written(folder: Path, **settings: Any) -> str:
    """A run's folder with no more than its recipe."""
    folder.mkdir()
    recipe = {"model": "base", "data": "pairs.jsonl", **settings}
    (folder / "config.yaml").write_text(json.dumps(recipe))
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({"method": {"name": "dpo", "beta": 0.25}}, 0.25),
        ({"method": "dpo"}, 0.1),
        ({"method": "cal-dpo"}, 0.001),
        ({"method": [{"name": "dpo", "beta": 0.5}, {"name": "nll", "weight": 0.2}]}, 0.5),
        ({"method": [{"name": "nll", "weight": 0.2}, {"name": "dpo", "beta": 0.3}]}, 0.3),
    ],
)
def test_a_runs_recipe_says_what_is_not_set(
    tmp_path: Path, settings: dict[str, Any], beta: float
) -> None:
    """By the method's own default, where the recipe leaves it out."""
    run = written(tmp_path / "run", **settings)
    assert sides_of(config(model=run)) == Sides(run, "base", beta)
    found = sides_of(config(model=run, reference="other", beta=2))
    assert (found.reference, found.beta) == ("other", 2)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"method": "reward"}, "ask it as kind reward"),
        ({"method": "sft"}, "trained by sft, which says no β of a summed log-ratio"),
        ({"method": "simpo"}, "trained by simpo, which says no β"),
        ({"method": "ln-dpo"}, "trained by ln-dpo, which says no β"),  # of a mean
        ({"method": "grpo", "rollout": {"judge": "rules.py:rule"}}, "says no β"),
        ({"adapter": {"path": "runs/sft/adapter"}}, "adapter runs/sft/adapter, so the judge needs"),
        ({"stages": [{"method": "sft"}, {"method": "dpo"}]}, "has stages"),
    ],
)
def test_where_a_log_ratio_is_no_reward(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sides_of(config(model=written(tmp_path / "run", **settings)))


def test_answers_are_read_as_the_run_read_them(tmp_path: Path) -> None:
    data = {"path": "pairs.jsonl", "template": "raw"}
    model = {"path": "base", "trust_remote_code": True}
    found = sides_of(config(model=written(tmp_path / "run", data=data, model=model)))
    assert (found.template, found.trust_remote_code) == ("raw", True)


def test_a_plain_text_run_is_judged_as_plain_text(both: dict[str, str], tmp_path: Path) -> None:
    run = Path(
        written(
            tmp_path / "run",
            data={"path": "pairs.jsonl", "template": "raw"},
            model=both["reference"],
        )
    )
    (run / "model").symlink_to(both["model"])
    with build_scorer(config(model=str(run))) as judge:
        (plain,) = judge.score([answered("Yes.")])
    with build_scorer(config(**both)) as judge:
        (chat,) = judge.score([answered("Yes.")])
    assert plain.value is not None
    assert plain.value != pytest.approx(chat.value, abs=1e-3)


def test_a_reference_that_is_gone_is_named(both: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the judge's reference \(set it as reference\)"):
        ImplicitScorer(config(model=both["model"], reference=str(tmp_path / "gone")))


def test_the_identity_holds_the_reference_and_beta(both: dict[str, str]) -> None:
    mine = identity(config(**both))
    assert mine == identity(config(**both, beta=0.1))
    assert mine != identity(config(**both, beta=0.2))
    assert mine != identity(config(model=both["model"], reference=both["model"]))


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_run_of_dpo_judges_as_it_was_trained(tmp_path: Path, kind: str) -> None:
    """Pairs whose chosen answers end in a question: the run learns it, and its judge says so."""
    run = trained_to_ask(tmp_path, kind, {"name": "dpo", "beta": 0.5})
    with build_pair_judge(config(model=str(run))) as judge:
        opinions = judge.compare(asked_again())
        lines = (run / "metrics.jsonl").read_text().splitlines()
        heldout = [one for one in map(json.loads, lines) if one["kind"] == "heldout"][-1]
        rows = read_snapshot(run / "snapshot").heldout
        new = [Question(pair, *(said.text for said in pair.completions)) for pair in rows]
        said = [o.first_wins for o in judge.compare(new)]
    assert all(o.first_wins is not None and o.first_wins > 0.6 for o in opinions)
    # The run's own margin of the pairs that it held out, by its last measurement.
    margins = [math.log(p / (1 - p)) for p in said if p is not None]
    assert len(margins) == heldout["n"] > 0
    assert sum(margins) / len(margins) == pytest.approx(heldout["margin"], abs=1e-3)
