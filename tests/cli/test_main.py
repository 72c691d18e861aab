"""The one place where errors become a line for people, and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from palate import __version__
from palate.cli import training
from palate.cli.main import app
from palate.cli.stop import Stopped
from palate.config import ConfigError


def palate(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `palate train x.yaml` end in the given way."""

    def install(error: BaseException) -> None:
        def run(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(training, "run_train", run)

    return install


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/checkpoints/step-2")
MENDABLE = [
    (ConfigError("no\nsuch  key"), "error: no such key"),
    (ValueError(""), "error: ValueError"),
    (
        FULL,
        f"error: No space left on device ({FULL.filename}): free some space, then continue with",
    ),
    (PermissionError(13, "Permission denied", "a"), "error: Permission denied (a)"),
    (OSError("odd"), "error: odd"),
    (FloatingPointError("the loss is nan"), "error: the loss is nan"),
    (MemoryError(), "error: out of memory: start anew with a lower train.tokens_per_microbatch"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried"), "error: out of memory: start"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "error: out of memory: st"),
]


@pytest.mark.parametrize(("error", "line"), MENDABLE, ids=lambda x: type(x).__name__)
def test_what_a_user_can_mend_is_one_line_and_2(
    failing: Any, error: BaseException, line: str
) -> None:
    failing(error)
    result = palate("train", "x.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(line)


@pytest.mark.parametrize("error", [ConfigError("wrong"), FULL, MemoryError()])
def test_debug_shows_the_traceback_too(failing: Any, error: BaseException) -> None:
    failing(error)
    result = palate("train", "x.yaml", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "in run" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x"), AssertionError("ours")])
def test_what_only_we_can_mend_is_not_hidden(failing: Any, error: BaseException) -> None:
    failing(error)
    assert palate("train", "x.yaml").exception is error


def test_stopping(failing: Any) -> None:
    failing(Stopped("stopped after step 3"))
    result = palate("train", "x.yaml")
    assert (result.exit_code, result.stderr) == (130, "stopped after step 3\n")
    failing(KeyboardInterrupt())
    result = palate("train", "x.yaml")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")


@pytest.mark.parametrize("words", [["trian", "x"], ["train"], ["train", "x", "--no-such"]])
def test_a_command_that_is_not_there(words: list[str]) -> None:
    result = palate(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_names_every_command() -> None:
    result = palate("--help")
    assert result.exit_code == 0
    for command in ("quickstart", "train", "sweep", "init", "chat", "doctor", "data", "version"):
        assert command in result.stdout


def test_the_version() -> None:
    for word in ("version", "--version"):
        result = palate(word)
        assert (result.exit_code, result.stdout) == (0, f"palate {__version__}\n")


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["version"],
        ["train", "/no/such/recipe.yaml"],
        ["sweep", "/no/such/recipe.yaml", "seed=1,2"],
    ],
)
def test_answers_at_once_without_the_heavy_libraries(words: list[str]) -> None:
    done = _python(
        f"""
        import sys
        from palate.cli.main import main
        sys.argv = ["palate", *{words!r}]
        try:
            main()
        except SystemExit:
            pass
        heavy = {{"torch", "transformers", "peft", "safetensors", "pyarrow", "numpy", "altair"}}
        print("LOADED", sorted(heavy & set(sys.modules)))
        """
    )
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def test_text_that_the_terminal_cannot_show_ends_nothing() -> None:
    done = _python(
        """
        import sys
        import palate.cli.main as cli
        cli.app = lambda: print("ü → 😀")
        cli.main()
        """,
        PYTHONIOENCODING="ascii",
    )
    assert (done.returncode, done.stdout) == (0, "? ? ?\n")
