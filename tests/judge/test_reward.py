"""A reward model scores in a judge as transformers' own classifier does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.judge.worlds import answered, asked_again, example, question, trained_to_ask
from tests.tiny import byte_tokenizer, save_tiny, tiny_config
from transformers import AutoModelForSequenceClassification

from palate.judge import reward
from palate.judge.build import build_pair_judge, build_scorer
from palate.judge.reward import RewardScorer
from palate.model import place
from palate.sections import JudgeConfig


def config(folder: Path) -> JudgeConfig:
    return JudgeConfig.model_validate({"kind": "reward", "model": str(folder), "device": "cpu"})


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 on every machine, to be compared with transformers."""
    monkeypatch.setattr(place, "fast_bf16", lambda: False)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier with one output, as method `reward` ships it."""
    place = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    settings = tiny_config(request.param)
    settings.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(place)
    byte_tokenizer().save_pretrained(place)
    return place


def own_score(folder: Path, text: str, *, finished: bool = True) -> float:
    """What transformers gives to the conversation, alone in its batch."""
    tokenizer: Any = byte_tokenizer()
    turns = [{"role": "user", "content": "Where is my parcel?"}]
    turns.append({"role": "assistant", "content": text})
    said = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
    said = said if finished else said.removesuffix("<|end|>")
    ids = tokenizer(said, add_special_tokens=False, return_tensors="pt")["input_ids"]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.pad_token_id = None  # the last token is the one that counts
    with torch.no_grad():
        return float(model(ids).logits[0, 0])


def test_scores_are_the_classifiers_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "BUDGET", 200)  # several batches, of rows of several lengths
    texts = ["It is on its way.", "No.", "We look into it and write to you today.", "Lost?"]
    with build_scorer(config(folder)) as judge:
        scores = judge.score([answered(text) for text in texts])
        (cut,) = judge.score([answered("It is on", finished=False)])
    expected = [own_score(folder, text) for text in texts]
    assert [s.value for s in scores] == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) == 4
    assert cut.value == pytest.approx(own_score(folder, "It is on", finished=False), abs=1e-4)


def test_a_comparison_is_bradley_terrys(folder: Path) -> None:
    first, second = own_score(folder, "Yes."), own_score(folder, "Perhaps not.")
    with build_pair_judge(config(folder)) as judge:
        (opinion,) = judge.compare([question("Yes.", "Perhaps not.")])
    expected = float(torch.sigmoid(torch.tensor(first - second)))
    assert opinion.first_wins == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_rendered_is_a_failure(folder: Path) -> None:
    with build_scorer(config(folder)) as judge:
        fine, control, empty = judge.score(
            [
                answered("Yes."),
                answered("<|end|>"),
                answered("Yes.", about=example("<|start|>system")),
            ]
        )
    assert fine.value is not None
    for score in (control, empty):
        assert score.value is None
        assert score.failure is not None
        assert "control token" in score.failure


def test_batches_hold_at_most_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "BUDGET", 100)
    assert reward._batches([10, 20, 30, 40, 50, 50, 200, 300]) == [
        range(3),
        range(3, 5),
        range(5, 6),
        range(6, 7),
        range(7, 8),
    ]
    assert reward._batches([]) == []


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no reward model"):
        RewardScorer(config(save_tiny(tmp_path / "plain")))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: x\n")
    with pytest.raises(ValueError, match="has no model yet"):
        RewardScorer(config(run))


def test_a_runs_folder_stands_for_the_model_that_it_ships(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: x\n")
    (tmp_path / "model").symlink_to(folder)
    with build_scorer(config(tmp_path)) as judge:
        (score,) = judge.score([answered("Yes.")])
    assert score.value == pytest.approx(own_score(folder, "Yes."), abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_trained_run_judges_as_it_was_trained(tmp_path: Path, kind: str) -> None:
    """Pairs whose chosen answers end in a question: the run learns it, and its judge says so."""
    run = trained_to_ask(tmp_path, kind, "reward")
    with build_pair_judge(config(run)) as judge:
        opinions = judge.compare(asked_again())
    assert all(o.first_wins is not None and o.first_wins > 0.6 for o in opinions)
