"""Fresh processes in turn, the equality gate before them, and the choice of TRL's tuning."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .course import GATE_PAIRS, GATE_STEPS, Course, digest, gate_course
from .sample import Entry, Sample, read_sample, write
from .workloads import draw

BENCHMARKS = Path(__file__).resolve().parents[1]
SRC = BENCHMARKS.parent / "src"
MODULES = {"palate": "racing.ours", "trl": "racing.trl_side"}
TOLERANCE = 1e-5
Say = Callable[[str], None]


class Failed(RuntimeError):
    """A process of the race ended without a result; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Processes:
    """How processes are started: interpreters by side, a folder for messages, extra variables."""

    python: dict[str, str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, entry: Entry) -> Sample:
        """One fresh process; raises `Failed`."""
        told, answer = self.folder / "entry.json", self.folder / "sample.json"
        write(entry, told)
        answer.unlink(missing_ok=True)
        command = [self.python[entry.side], "-m", MODULES[entry.side], str(told), str(answer)]
        done = subprocess.run(  # noqa: S603 our own module, an interpreter the user named
            command,
            cwd=BENCHMARKS,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answer.is_file():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise Failed(f"{entry.side} ended with {done.returncode}:\n{tail}")
        return read_sample(answer)

    def _environment(self) -> dict[str, str]:
        """The user's own variables, these, and a path to both sides' code."""
        paths = [str(SRC), os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(path for path in paths if path)
        return {**os.environ, "PYTHONPATH": path, **self.environment}


def check_equal(
    processes: Processes, course: Course, entries: dict[str, Entry], say: Say
) -> list[str]:
    """The gate: on short steps in fp32 both sides' losses must agree; returns lines for the record.

    Both start from weights that differ from the reference's. The first loss is before any
    update, the second after one of AdamW's. Raises `ValueError` where they differ by more
    than `TOLERANCE`, or where the sides were fed other tokens.
    """
    short = gate_course(course, draw(GATE_STEPS, GATE_PAIRS))
    path = processes.folder / "gate.json"
    short.write(path)
    samples, used = {}, {}
    for side in ("palate", "trl"):
        entry = replace(
            entries[side],
            course=str(path),
            precision="fp32",
            gate=str(processes.folder / "gate.safetensors"),
            batch=1,
            pairs=None,
            checkpointing=False,
            precompute=False,
            tuned=True,
            # A small update, proportional to the gradient: with AdamW's own eps the sign of a
            # weight whose gradient is all rounding would decide where it goes, and a large
            # update multiplies the rounding of both sides' gradients.
            lr=2e-4,
            eps=1e-2,
        )
        samples[side], used[side] = processes.run(entry), entry
    ours, theirs = samples["palate"], samples["trl"]
    for side, sample in samples.items():
        same_tokens(short, used[side], sample)
    apart = [abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)]
    for step, size in enumerate(apart):
        a, b = ours.losses[step], theirs.losses[step]
        say(f"  gate, step {step + 1}: loss {a:.7f} and TRL's {b:.7f}, apart by {size:.1e}")
    if not all(size <= TOLERANCE for size in apart):  # so written, NaN does not pass either
        raise ValueError(
            f"the losses in fp32 differ by {', '.join(f'{size:.1e}' for size in apart)}, more than "
            f"{TOLERANCE:.0e}: nothing is timed"
        )
    return [f"losses in fp32 agree to {max(apart):.1e} over {len(apart)} steps"]


def same_tokens(course: Course, entry: Entry, sample: Sample) -> None:
    """Raises `ValueError` unless the side trained on its part of the course, step by step."""
    steps = [step[: entry.pairs] for step in course.steps]
    if entry.side == "palate":
        expected = course.digest()
    else:
        rows = sorted(row for step in steps for row in step)
        pairs = (course.pairs[row] for row in rows)
        expected = digest((p.prompt, p.chosen, p.rejected) for p in pairs)
    if sample.digest != expected:
        raise ValueError(f"{entry.side} was not fed the course's token ids: nothing is compared")
    counts = [sum(course.pairs[row].tokens for row in step) for step in steps]
    if sample.path != counts:
        raise ValueError(
            f"{entry.side} trained on {sample.path} tokens a step, not on {counts}: nothing is "
            "compared"
        )


def alternate(
    processes: Processes, entries: dict[str, Entry], rounds: int, say: Say
) -> dict[str, list[Sample]]:
    """A B A B …: every entry once a round, each in a fresh process."""
    found: dict[str, list[Sample]] = {name: [] for name in entries}
    for number in range(rounds):
        for name, entry in entries.items():
            sample = processes.run(entry)
            found[name].append(sample)
            steps = " ".join(f"{s:.2f}" for s in sample.seconds)
            gib = sample.peak_bytes / 2**30
            say(f"  round {number + 1}, {name}: steps of {steps} s, peak {gib:.1f} GiB")
    return found
