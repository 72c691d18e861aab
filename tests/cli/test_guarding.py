"""`palate guard` as it is typed: figures, JSON, and one line for what cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.guard.worlds import prompts, settings, write
from typer.testing import Result

pytestmark = pytest.mark.usefixtures("cache")
Palate = Callable[..., Result]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("labels") / "labels.jsonl", prompts(48))


def test_train_then_eval(
    palate: Palate, labels: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    quick = [*settings(tiny_model_folder, tmp_path / "runs"), "train.epochs=3"]
    done = palate("guard", "train", labels, *quick, "--fpr", "0.2", "--json")
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["goal"] == {"recall": None, "fpr": 0.2}
    folder = tmp_path / "runs" / "guard"
    assert (folder / "guard.html").is_file()
    again = palate("guard", "train", folder / "config.yaml", "resume=auto", "--recall", "0.8")
    assert again.exit_code == 0, again.stderr
    assert "area under the ROC curve" in again.stderr
    assert f"palate guard eval {folder}" in again.stderr

    new = write(tmp_path / "new.jsonl", prompts(24, 500))
    found = palate("guard", "eval", folder, new, "--json", "--page", tmp_path / "new.html")
    assert found.exit_code == 0, found.stderr
    said = json.loads(found.stdout)
    assert said["figures"]["rows"] == 24
    assert 0 <= said["figures"]["auc_interval"][0] <= said["figures"]["auc"] <= 1
    assert "<h3>topic</h3>" in (tmp_path / "new.html").read_text(encoding="utf-8")
    known = palate("guard", "eval", folder, labels)
    assert known.exit_code == 0, known.stderr
    assert "left out:" in known.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nothing.jsonl"), "there is no nothing.jsonl: name a store"),
        (("train", "LABELS", "--recall", "0.9", "--fpr", "0.1"), "one of --recall and --fpr"),
        (("train", "LABELS", "--recall", "2"), "the recall must lie in (0, 1]"),
        (("train", "LABELS", "data.heldout=0"), "set data.heldout above 0"),
        (("train", "LABELS", "modle=x"), "did you mean 'model'"),
        (("eval", "nowhere", "LABELS"), "there is no guard in nowhere"),
        (("eval", "nowhere", "nothing.jsonl"), "there is no nothing.jsonl"),
    ],
)
def test_what_cannot_work_is_one_line(
    palate: Palate,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = palate("guard", *(labels if word == "LABELS" else word for word in words))
    assert done.exit_code == 2
    assert said in done.stderr
    assert sum("error:" in line for line in done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
