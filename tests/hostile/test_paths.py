"""Names and links in folders of others lead nowhere else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from palate.config import ConfigError, RunConfig, build_config
from palate.durable import (
    Damaged,
    commit_folder,
    hold,
    leads_out,
    remove_folder,
    verify_folder,
    write_text,
)
from palate.model.load import load_config_only, load_tokenizer, resolve
from palate.train.folder import open_folder
from palate.ui.runs.log import tail


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of somebody else, outside of every folder of the tests."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_text("kept")
    return path


def listing(folder: Path, *names: str) -> Path:
    folder.mkdir()
    sums = {name: hashlib.sha256(b"kept").hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps({"files": sums}))
    return folder


@pytest.mark.parametrize(
    "name", ["../outside/secret", "a/../../outside/secret", "", "..\\outside", "a\0b", "/etc/hosts"]
)
def test_a_manifest_names_only_files_of_its_folder(tmp_path: Path, secret: Path, name: str) -> None:
    folder = listing(tmp_path / "step-1", name)
    with pytest.raises(Damaged, match="no file of this folder"):
        verify_folder(folder)
    assert leads_out(folder, str(secret))


def test_a_file_of_a_manifest_is_no_link(tmp_path: Path, secret: Path) -> None:
    folder = listing(tmp_path / "step-1", "weights.safetensors")
    (folder / "weights.safetensors").symlink_to(secret)
    with pytest.raises(Damaged, match="no file of this folder"):
        verify_folder(folder)
    (folder / "weights.safetensors").unlink()
    shutil.copy(secret, folder / "weights.safetensors")
    assert verify_folder(folder)


def test_nor_is_a_folder_on_the_way_to_it(tmp_path: Path, secret: Path) -> None:
    folder = listing(tmp_path / "step-1", "sub/secret")
    (folder / "sub").symlink_to(secret.parent)
    with pytest.raises(Damaged, match="no file of this folder"):
        verify_folder(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"files": 1}', '{"files": {"a": []}}'])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(Damaged):
        verify_folder(tmp_path)


def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path, secret: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.yaml.tmp").symlink_to(secret)
    write_text(run / "config.yaml", "a: 1\n")
    (run / "step-1").symlink_to(secret.parent)
    remove_folder(run / "step-1")
    commit_folder(run / "step-2", lambda folder: (folder / "x").symlink_to(secret.parent), {})
    remove_folder(run / "step-2")
    (run / ".step-3.tmp").symlink_to(secret.parent)
    commit_folder(run / "step-3", lambda folder: None, {})
    assert (run / "config.yaml").read_text() == "a: 1\n"
    assert secret.read_text() == "kept"
    assert list(secret.parent.iterdir()) == [secret]


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP, whose words are the system's
        hold(tmp_path / ".lock")
    assert not (tmp_path / "made").exists()


def recipe(tmp_path: Path, **more: str) -> RunConfig:
    return build_config(
        {"model": "m", "data": "x.jsonl", "out": str(tmp_path), "resume": "auto", **more}
    )


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "samples.jsonl"])
def test_a_run_with_links_is_not_continued(tmp_path: Path, secret: Path, name: str) -> None:
    config = recipe(tmp_path, name="run")
    with open_folder(config):
        pass
    (config.folder / name).symlink_to(secret)
    with pytest.raises(ConfigError, match=f"{name} is a link"), open_folder(config):
        pass
    (config.folder / name).unlink()
    with open_folder(config) as (_, continues):
        assert continues


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\0b", "a\\b"])
def test_a_runs_name_is_one_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="becomes a folder"):
        recipe(tmp_path, name=name)


def test_a_models_files_are_its_own(tmp_path: Path, model: Path, secret: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    moved = secret.parent / "config.json"
    shutil.move(folder / "config.json", moved)
    (folder / "config.json").symlink_to(moved)
    for opens in (resolve, load_config_only, load_tokenizer):
        with pytest.raises(ValueError, match="outside the model's folder"):
            opens(str(folder))
    (folder / "config.json").unlink()
    (folder / "kept.json").write_text(moved.read_text())
    (folder / "config.json").symlink_to("kept.json")
    load_config_only(str(folder))


def test_a_snapshot_of_the_hubs_cache_is_read(tmp_path: Path, model: Path) -> None:
    """Its files are links into `blobs`, beside `snapshots`; to other folders they may not lead."""
    home = tmp_path / "hub" / "models--a--b"
    snapshot, blobs = home / "snapshots" / "0123", home / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        shutil.copy(path, blobs / f"hash-of-{path.name}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"hash-of-{path.name}")
    load_tokenizer(str(snapshot))
    shutil.move(blobs / "hash-of-config.json", tmp_path / "elsewhere")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="outside the model's folder"):
        load_config_only(str(snapshot))


def test_a_log_that_is_a_link_is_not_shown(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "log").symlink_to(secret)
    assert tail(secret) == ["kept"]
    assert tail(tmp_path / "log") == []
