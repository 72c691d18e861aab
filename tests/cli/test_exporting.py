"""`palate export`: what it shows, and its exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from palate.cli.exporting import _finished
from palate.config import ConfigError

Palate = Callable[..., Result]


def test_a_run_is_exported_and_shown(palate: Palate, finished_run: Path, tmp_path: Path) -> None:
    done = palate("export", finished_run, "--to", "merged", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "top-1 agreement" in done.output
    assert str(tmp_path / "out" / "README.md") in done.output.replace("\n", "")
    again = palate(
        *("export", finished_run, "--to", "merged", "-o", tmp_path / "out", "--tokens", 5, "--json")
    )
    assert again.exit_code == 0, again.output
    record = json.loads(again.stdout)
    assert record == json.loads((tmp_path / "out" / "ship.json").read_text())
    # Measuring ends with the first text that brings it to so many tokens.
    assert record["parity"]["texts"] == 1
    assert record["export"]["to"] == "merged"


def test_over_the_limit_is_exit_code_3(palate: Palate, finished_run: Path, tmp_path: Path) -> None:
    flags = ["--dtype", "bf16", "--max-kl", 0]
    done = palate("export", finished_run, "--to", "merged", "-o", tmp_path / "out", *flags)
    assert done.exit_code == 3, done.output
    assert "is not the trained model" in done.output
    assert list(tmp_path.iterdir()) == []


def test_what_a_user_can_mend_is_exit_code_2(
    palate: Palate, finished_run: Path, tmp_path: Path
) -> None:
    wrong = palate("export", finished_run, "--to", "onnx", "-o", tmp_path / "out")
    assert wrong.exit_code == 2
    assert "--to is one of adapter, merged, gguf" in wrong.output
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "results.json").unlink()
    unfinished = palate("export", run, "--to", "merged", "-o", tmp_path / "out")
    assert unfinished.exit_code == 2
    assert "is not finished" in unfinished.output
    assert palate("export", tmp_path / "nowhere", "--to", "merged").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_of_several_stages_the_last_is_exported(finished_run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    run = tmp_path / "staged"
    for stage in ("1-sft", "2-dpo"):
        (run / stage).mkdir(parents=True)
    config |= {"name": "staged", "out": str(tmp_path), "stages": ["sft", "dpo"]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="is not finished"):
        _finished(run)
    (run / "results.json").write_text('{"stages": []}')
    assert _finished(run) == run / "2-dpo"
