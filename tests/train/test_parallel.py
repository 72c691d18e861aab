"""Several ranks do what one process does: the same losses, weights, metrics and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.conftest import write_pairs
from tests.tiny import save_tiny
from tests.train.ranks import EXAMPLES, run_job, uneven_pairs
from tests.train.starting import Starter, environment, free_port, said
from tests.train.tasks import STEPS

from palate.config import ConfigError, build_config, dump_config, load_config
from palate.durable import verify_folder
from palate.run import train
from palate.tokens.divide import divide
from palate.tokens.sampler import Sampler, cut
from palate.train.checkpoint import read_tensors
from palate.train.metrics import read_metrics
from palate.train.parallel import ALONE, join, own_device

ROOT = Path(__file__).resolve().parents[2]
RANKS = 2
WHOLE: dict[str, Any] = {"kind": "full", "method": "moving", "log_every": 3}
# Of step 2 the second rank has two examples, in one micro-batch at this budget.
WITHOUT_MEMORY: dict[str, Any] = {
    **WHOLE,
    "tokens_per_microbatch": 200,
    "harm": {"how": "memory", "step": 2},
}
EQUAL: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora"},
    "full": WHOLE,
    "coupled": {"kind": "full", "method": "coupled"},
}


def start(words: Callable[[int], list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Run `python WORDS` on both ranks; returns how each ended, within a quarter of an hour."""
    port, path = free_port(), f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    one_thread = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", *words(rank)],
            env={**os.environ, **environment(rank, RANKS, port), **one_thread},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        ended = [one.communicate(timeout=900) for one in running]
    finally:
        for one in running:
            one.kill()
    return [
        subprocess.CompletedProcess(one.args, one.returncode, out, err)
        for one, (out, err) in zip(running, ended, strict=True)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same jobs in this process."""
    folder = tmp_path_factory.mktemp("alone")
    for name, settings in EQUAL.items():
        run_job(folder / name, **settings)
    return folder


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, starter: Starter
) -> Path:
    """Everything that one start of two ranks is for."""
    folder = tmp_path_factory.mktemp(request.param)
    run_job(folder / "one-then-two", stop_after=2, **WHOLE)
    jobs: list[tuple[str, dict[str, Any]]] = [
        *EQUAL.items(),
        ("stopped", {**WHOLE, "stop_after": 2}),
        ("stopped", {**WHOLE, "resume": True}),
        ("two-then-one", {**WHOLE, "stop_after": 2}),
        ("one-then-two", {**WHOLE, "resume": True}),
    ]
    if request.param == "ddp":
        jobs.append(("memory", WITHOUT_MEMORY))
    codes = starter.run(folder, RANKS, request.param, jobs)
    assert codes == [0, 0], "".join(said(folder, RANKS))
    return folder


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "checkpoints" / f"step-{STEPS}", name)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = read_metrics(folder / "metrics.jsonl")
    for line in found:
        line.pop("seconds", None)
    return found


def assert_equal(found: Path, expected: Path) -> None:
    """Weights, moments, state and every line of the metrics, to the rounding of fp32 sums."""
    for name in ("weights", "optimizer", "method"):
        theirs, ours = tensors(expected, name), tensors(found, name)
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            scale = float(theirs[key].abs().max())
            assert tensor.dtype == theirs[key].dtype
            assert float((tensor - theirs[key]).abs().max()) <= 1e-5 * scale, (name, key)
    before, after = lines(expected), lines(found)
    assert [list(line) for line in after] == [list(line) for line in before]
    for line, other in zip(after, before, strict=True):
        counts = ("kind", "step", "epoch", "n", "examples", "path_tokens", "lr")
        for key, value in line.items():
            if key in counts:
                assert value == other[key]
            elif key != "unique_tokens":  # what two ranks share, both compute
                assert value == pytest.approx(other[key], rel=2e-6, abs=2e-7), (line["step"], key)


def assert_same_bits(found: Path, expected: Path) -> None:
    for name in ("weights", "optimizer", "method"):
        ours, theirs = tensors(found, name), tensors(expected, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items()), name
    assert lines(found) == lines(expected)


def test_the_ranks_have_different_work() -> None:
    """Premise of all that follows: unequal numbers of micro-batches, and a rank without any."""
    examples, sampler = uneven_pairs(), Sampler(EXAMPLES, 4, 5)
    counts = [
        [len(cut(examples, mine, 40)) for mine in divide(examples, sampler.batch(step), RANKS)]
        for step in range(STEPS)
    ]
    assert any(one != other and min(one, other) > 0 for one, other in counts), counts
    assert any(0 in both for both in counts), counts


@pytest.mark.slow
def test_two_ranks_equal_one_process(together: Path, alone: Path) -> None:
    """LoRA and full, a method with a state, one that couples the examples of a step."""
    for name in EQUAL:
        assert_equal(together / name, alone / name)


@pytest.mark.slow
def test_the_ranks_hold_the_same_weights(together: Path) -> None:
    for name in EQUAL:
        one, other = (json.loads((together / name / f"rank-{r}.json").read_text()) for r in (0, 1))
        assert one["weights"] == other["weights"]


@pytest.mark.slow
def test_a_stop_of_one_rank_stops_all_and_the_rest_is_the_same_bit_for_bit(together: Path) -> None:
    """Only the last rank was asked to stop, between two lines of the metrics."""
    assert_same_bits(together / "stopped", together / "full")


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_number_of_ranks(together: Path, alone: Path) -> None:
    assert_equal(together / "one-then-two", alone / "full")
    told = json.loads((together / "one-then-two" / "rank-0.json").read_text())["notes"]
    kind = together.name[:-1]
    assert any(f"written by one process, and now there is 2 ranks ({kind})" in n for n in told)
    notes = run_job(together / "two-then-one", resume=True, **WHOLE)
    assert any(f"written by 2 ranks ({kind}), and now there is one process" in n for n in notes)
    assert_equal(together / "two-then-one", alone / "full")


@pytest.mark.slow
def test_the_manifest_says_what_is_inside(together: Path, alone: Path) -> None:
    found = verify_folder(together / "full" / "checkpoints" / f"step-{STEPS}")
    other = verify_folder(alone / "full" / "checkpoints" / f"step-{STEPS}")
    kind = together.name[:-1]
    assert (found["format"], found["step"]) == (4, STEPS)
    assert (found["world"], found["parallel"]) == (RANKS, kind)
    assert (other["world"], other["parallel"]) == (1, "none")
    assert found["tensors"] == other["tensors"]
    inside = found["tensors"]["weights"]
    assert {name: entry["shape"] for name, entry in inside.items()} == {
        name: list(tensor.shape) for name, tensor in tensors(together / "full", "weights").items()
    }
    assert {entry["dtype"] for entry in inside.values()} == {"float32"}
    assert found["tensors"]["method"] == {"mean": {"shape": [], "dtype": "float64"}}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("how", "codes", "line"),
    [
        ("error", [2, 2], "error: row 7 has no log-probs"),
        ("nan", [2, 2], "error: the loss is nan on examples "),
        ("gradient", [2, 2], "error: the gradient norm is "),
        ("kill", [2, -9], "error: another rank ended without a word: see what became"),
    ],
    ids=["error", "nan", "gradient", "kill"],
)
def test_an_error_on_one_rank_ends_all_with_one_line(
    starter: Starter, tmp_path: Path, parallel: str, how: str, codes: list[int], line: str
) -> None:
    harm = {"how": how, "step": 3}
    job = ("harmed", {**WHOLE, "harm": harm, "save_every": 1})
    assert starter.run(tmp_path, RANKS, parallel, [job]) == codes, said(tmp_path, RANKS)
    text = "".join(said(tmp_path, RANKS))
    wanted = [one for one in text.splitlines() if one.startswith("error")]
    assert len(wanted) == 1, text
    assert wanted[0].startswith(line)
    assert "Traceback" not in text
    kept = sorted((tmp_path / "harmed" / "checkpoints").glob("step-*"))
    whole = ["step-1"] if how == "kill" else ["step-1", "step-2"]
    assert [one.name for one in kept][: len(whole)] == whole
    for one in kept:
        verify_folder(one)


@pytest.mark.slow
def test_memory_that_runs_out_on_one_rank_changes_nothing_but_the_cut(
    together: Path, alone: Path
) -> None:
    """All begin the step anew with what that rank can do, and say so once; not where it is fsdp."""
    if "fsdp" in together.name:
        pytest.skip("ends the run, see below")
    assert_equal(together / "memory", alone / "full")
    notes = [json.loads((together / "memory" / f"rank-{r}.json").read_text()) for r in range(RANKS)]
    assert notes[0]["weights"] == notes[1]["weights"]
    told = [[n for n in seen["notes"] if n.startswith("out of memory in step 2")] for seen in notes]
    assert told[0] == told[1]
    assert len(told[0]) == 1


@pytest.mark.slow
def test_rank_0_may_work_alone_for_longer_than_the_time_limit(
    starter: Starter, tmp_path: Path
) -> None:
    job = ("solo", {**WHOLE, "harm": {"how": "solo", "seconds": 9.0}})
    assert starter.run(tmp_path, RANKS, "ddp", [job], timeout=4.0) == [0, 0]


@pytest.mark.slow
def test_a_rank_that_is_stopped_meanwhile_is_not_waited_for(
    starter: Starter, tmp_path: Path
) -> None:
    """Rank 0 would work for ten minutes, and asks nobody for anything."""
    job = ("solo", {**WHOLE, "harm": {"how": "solo-stop", "seconds": 600.0}})
    codes = starter.run(tmp_path, RANKS, "ddp", [job], timeout=4.0, limit=120.0, wake=True)
    assert codes == [2, 2]
    first, other = said(tmp_path, RANKS)
    assert first.startswith("error: rank 1 has given no sign of life for 4 s (train.rank_timeout)")
    assert first.count("\n") == 1
    assert other.count("\n") <= 1


@pytest.mark.slow
def test_memory_that_runs_out_on_a_rank_of_divided_weights_ends_the_run(
    starter: Starter, tmp_path: Path
) -> None:
    assert starter.run(tmp_path, RANKS, "fsdp", [("memory", WITHOUT_MEMORY)]) == [2, 2]
    text = "".join(said(tmp_path, RANKS))
    assert text.startswith("error: out of memory on rank 1 in step 2: set train.tokens_per")
    assert text.count("\n") == 1


def recipe(home: Path, model: Path, adapter: str = "full", **changes: Any) -> Path:
    """A whole run: 12 pairs, 3 steps, answers before and after."""
    raw = {
        "name": "many",
        "out": str(home / "runs"),
        "model": str(model),
        "data": {"path": str(write_pairs(home / "pairs.jsonl")), "heldout": 0.2},
        "adapter": {"kind": adapter},
        "train": {"batch_size": 4, "max_steps": 3, "tokens_per_microbatch": 200, **changes},
        "optim": {"lr": 1e-3},
        "evaluate": {"samples": 2, "max_new_tokens": 4},
    }
    raw["train"]["precision"] = "fp32"
    (home / "recipe.yaml").write_text(dump_config(build_config(raw)))
    return home / "recipe.yaml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "adapter"), [("auto", "full"), ("fsdp", "full"), ("fsdp", "lora")]
)
def test_a_whole_run_by_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str, adapter: str
) -> None:
    """From the data to the shipped model; rank 0 alone speaks, writes and, of fsdp's, loads."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}")
    model = save_tiny(tmp_path / "model")
    path = recipe(tmp_path, model, adapter, parallel=parallel)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}"),
            *(f"--master-port={free_port()}", "-m", "palate.cli", "train", str(path), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    results = json.loads(ended.stdout)
    assert ended.stderr.count("loading …") == 1
    assert ended.stderr.count("training: 3/3") == 1
    folder = tmp_path / "runs" / "many"
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["parallel"], plan["ranks"]) == ("ddp" if parallel == "auto" else "fsdp", RANKS)
    assert (folder / "report.html").is_file()

    config = load_config(path, ["name=one", "train.parallel=auto"])
    expected = train(config)
    for key in ("loss", "margin"):
        assert results["heldout"][key] == pytest.approx(expected.results["heldout"][key], rel=1e-5)
    assert results["training"]["path_tokens"] == expected.results["training"]["path_tokens"]
    ours, theirs = (
        load_file(place / "model" / "model.safetensors") for place in (folder, expected.folder)
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        scale = float(theirs[name].abs().max())
        assert float((tensor - theirs[name]).abs().max()) <= 1e-5 * scale, name
    assert any(
        not torch.equal(t, load_file(model / "model.safetensors")[n]) for n, t in ours.items()
    )


@pytest.mark.slow
def test_stages_by_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks meet anew for each stage; rank 0 alone opens the folder of the whole."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    path = recipe(tmp_path, save_tiny(tmp_path / "model"))
    stages = "stages=[sft, {method: dpo, train: {max_steps: 2}}]"

    def words(rank: int) -> list[str]:
        return ["-m", "palate.cli", "train", str(path), stages, "--json"]

    ended = start(words)
    assert [one.returncode for one in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert ended[1].stdout == ""
    folder = tmp_path / "runs" / "many"
    found = json.loads((folder / "results.json").read_text())["stages"]
    assert json.loads(ended[0].stdout) == {k: v for k, v in found[1].items() if k != "stage"}
    config = load_config(path, [stages, "name=one"])
    alone = train(config)
    for key in ("loss", "margin"):
        assert found[1]["heldout"][key] == pytest.approx(alone.results["heldout"][key], rel=1e-4)


@pytest.mark.slow
def test_ranks_that_do_not_agree_end_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank finds another model; the first waits for no one, and says nothing."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    path = recipe(tmp_path, save_tiny(tmp_path / "model"))
    save_tiny(tmp_path / "other", seed=1)

    def words(rank: int) -> list[str]:
        other = [f"model={tmp_path / 'other'}"] if rank else []
        return ["-m", "palate.cli", "train", str(path), *other]

    ended = start(words)
    assert [one.returncode for one in ended] == [2, 2]
    assert [one.stderr.count("error: ") for one in ended] == [0, 1]
    assert "holds other weights" in ended[1].stderr


def test_several_processes_want_torchrun() -> None:
    wanted = pytest.raises(ConfigError, match=r"train.parallel is fsdp, .*torchrun --nproc-per")
    with wanted, join("fsdp"):
        pass
    with join("auto") as ranks:
        assert ranks is ALONE


def test_each_rank_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [own_device("cuda", local) for local in (0, 1)] == ["cuda:0", "cuda:1"]
    assert own_device("cpu", 5) == "cpu"
    with pytest.raises(ConfigError, match="more ranks here than GPUs: use --nproc-per-node=2"):
        own_device("cuda", 2)
    for one in ("cuda:1", "mps"):
        with pytest.raises(ConfigError, match=f"train.device {one} is one device"):
            own_device(one, 0)


@pytest.mark.parametrize(("here", "cure"), [(1, "use ddp"), (3, "use fsdp")])
def test_hybrid_wants_equal_machines(monkeypatch: pytest.MonkeyPatch, here: int, cure: str) -> None:
    for name, value in environment(0, 4, 1, machine=here).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"there are {here} of 4 here: .*{cure}"), join("hybrid"):
        pass


def test_torchrun_with_one_process_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join("fsdp") as ranks:
        assert ranks is ALONE
