"""TRL's own environment: made once by venv and pip, found again by its requirements' hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from .duel import Say

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements-trl.txt"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


def trl_python(given: str | None, index: str | None, say: Say) -> str:
    """The interpreter of an environment that has TRL.

    `given` is a folder that holds one; without it the environment is made in Palate's cache.
    `index` is where pip finds torch besides PyPI; by default PyTorch's CPU builds where our
    own torch has no CUDA. Raises `ValueError` when there is no such environment.
    """
    if given is not None:
        return _interpreter(Path(given))
    import torch

    from palate.machine import cache_root

    name = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_root() / "race" / f"trl-{name}"
    done = folder / ".complete"
    if not done.is_file():
        say(f"making TRL's environment in {folder}")
        if index is None and torch.version.cuda is None:
            index = CPU_TORCH
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        extra = ("--extra-index-url", index) if index else ()
        pip = (_interpreter(folder), "-m", "pip", "install", "-q", "--disable-pip-version-check")
        _run(*pip, *extra, "-r", str(REQUIREMENTS))
        done.touch()
    return _interpreter(folder)


def _interpreter(folder: Path) -> str:
    for name in ("bin/python", "Scripts/python.exe"):
        if (folder / name).is_file():
            return str(folder / name)
    raise ValueError(
        f"there is no Python in {folder}: give the folder of an environment with TRL, or leave "
        "--trl-env out to have one made"
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False)  # noqa: S603 venv and pip, with our own arguments
    if done.returncode:
        raise ValueError(f"this failed with {done.returncode}: {' '.join(command)}")
