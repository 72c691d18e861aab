"""`palate serve` as it is typed: which models, vLLM's command, and what is refused at once."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from palate.cli.serving_model import base_of, entry_of
from palate.config import ConfigError, load_config
from palate.model.load import load, weights_hash

Palate = Callable[..., Result]


def test_a_run_with_an_adapter_stands_beside_its_base(
    finished_run: Path, tiny_model_folder: Path
) -> None:
    entry = entry_of(str(finished_run))
    assert (entry.name, entry.place) == ("tiny", str(tiny_model_folder))
    assert entry.adapter == finished_run / "adapter"
    assert entry.base_sha256 == weights_hash(load(str(tiny_model_folder)).model)


def test_what_a_run_began_from_is_served_under_its_template(
    palate: Palate, finished_run: Path, tiny_model_folder: Path
) -> None:
    entry = base_of(str(finished_run))
    assert (entry.name, entry.place, entry.adapter) == ("tiny-base", str(tiny_model_folder), None)
    assert entry.template == load_config(finished_run / "config.yaml").data.template
    nothing = palate("serve")
    assert nothing.exit_code == 2
    assert "say what to serve" in nothing.stderr


def test_a_model_is_called_by_its_folder_or_as_it_is_written(tiny_model_folder: Path) -> None:
    assert entry_of(f"{tiny_model_folder}/").name == tiny_model_folder.name
    assert entry_of("smollm2-135m-instruct").name == "smollm2-135m-instruct"
    assert entry_of("owner/name").name == "owner/name"


def test_a_run_that_is_not_finished_is_refused(finished_run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copy(finished_run / "config.yaml", tmp_path)
    with pytest.raises(ConfigError, match="not finished"):
        entry_of(str(tmp_path))


def test_vllms_command(palate: Palate, finished_run: Path, tiny_model_folder: Path) -> None:
    rank = load_config(finished_run / "config.yaml").adapter.rank
    found = palate("serve", finished_run, "--print-vllm")
    assert found.exit_code == 0, found.stderr
    assert found.stdout.strip() == (
        f"vllm serve {tiny_model_folder} --served-model-name base --enable-lora --max-loras 1 "
        f"--max-lora-rank {rank} --lora-modules tiny={finished_run}/adapter "
        "--generation-config vllm"
    )
    plain = palate("serve", finished_run / "model", "--print-vllm")
    assert plain.stdout.strip() == (
        f"vllm serve {finished_run}/model --served-model-name model --generation-config vllm"
    )
    both = palate("serve", finished_run, finished_run / "model", "--print-vllm")
    assert both.exit_code == 2
    assert "holds one base model" in both.stderr


def test_vllms_command_asks_as_in_training(
    palate: Palate, finished_run: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    import json
    import shutil

    raw = tmp_path / "raw"
    shutil.copytree(finished_run, raw)
    config = (raw / "config.yaml").read_text()
    assert "template: auto" in config
    (raw / "config.yaml").write_text(config.replace("template: auto", "template: raw"))
    found = palate("serve", raw, "--print-vllm")
    assert found.exit_code == 0, found.stderr
    assert "without a chat template: ask /v1/completions" in found.stderr.replace("\n", " ")
    assert found.stdout.count("\n") == 1
    thinks = tmp_path / "thinks"
    shutil.copytree(tiny_model_folder, thinks)
    (thinks / "chat_template.jinja").write_text("{% if enable_thinking is defined %}x{% endif %}")
    command = shlex.split(palate("serve", thinks, "--print-vllm").stdout)
    told = command[command.index("--default-chat-template-kwargs") + 1]
    assert json.loads(told) == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "192.0.2.1"], "give --api-key-env NAME"),
        (["--host", "192.0.2.1", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY holds no key"),
        (["--port", "0", "--guard", "nowhere", "--no-store"], "nowhere"),
    ],
)
def test_what_cannot_work_is_one_line(
    palate: Palate, tiny_model_folder: Path, words: list[str], said: str
) -> None:
    found = palate("serve", tiny_model_folder, *words)
    assert found.exit_code == 2
    assert said in found.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_program_serves_a_run_and_ends_at_sigterm(finished_run: Path, tmp_path: Path) -> None:
    log = (tmp_path / "log.txt").open("wb")
    program = subprocess.Popen(
        [sys.executable, "-m", "palate.cli", "serve", str(finished_run), "--port", "0"],
        cwd=tmp_path,
        stderr=log,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        limit, url = time.monotonic() + 400, ""
        while not url and time.monotonic() < limit:
            assert program.poll() is None, (tmp_path / "log.txt").read_text()
            said = (tmp_path / "log.txt").read_text().splitlines()
            url = next((line.split()[2] for line in said if "/v1 serves " in line), "")
            time.sleep(0.05)
        said = (tmp_path / "log.txt").read_text().splitlines()
        assert said[0].startswith("for production, vLLM serves the same: palate serve ")
        assert said[-1].endswith("serves tiny, base")
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        for name in ("tiny", "base"):
            found = httpx.post(f"{url}/chat/completions", json={**body, "model": name}, timeout=60)
            assert found.status_code == 200
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0
    finally:
        program.kill()
    log.close()
    assert "draining" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "palate.db").exists()
