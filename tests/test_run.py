"""Whole runs on a tiny model: from a file of conversations to a model that ships."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.tiny import byte_tokenizer, save_tiny, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import palate
import palate.run as running
from palate.config import ConfigError, RunConfig, load_config
from palate.evaluate.sampled import read_answers
from palate.ingest import IngestError
from palate.progress import Quiet
from palate.run import Run, train
from palate.store.snapshot import read_snapshot
from palate.train.heldout import Measured
from palate.train.metrics import read_metrics
from palate.train.task import Interrupted

pytestmark = pytest.mark.usefixtures("cache")

SYSTEM = {"role": "system", "content": "Be brief, and always end with a question."}
COUNT = 14
LN2 = math.log(2)


def asked(i: int) -> str:
    return f"Question {i}: " + "abcdefghijklmnop"[: 1 + i % 5]


def good(i: int) -> str:
    return f"Yes {i}. And you?"


def bad(i: int) -> str:
    return f"No, not {i} at all."


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def openai_chat(i: int) -> list[dict[str, Any]]:
    request = {"messages": [SYSTEM, says("user", asked(i))]}
    return [
        {**request, "choices": [{"message": says("assistant", text)}], "feedback": thumb}
        for text, thumb in ((good(i), "up"), (bad(i), "down"))
    ]


def openai_preference(i: int) -> list[dict[str, Any]]:
    return [
        {
            "input": {"messages": [SYSTEM, says("user", asked(i))]},
            "preferred_output": [says("assistant", good(i))],
            "non_preferred_output": [says("assistant", bad(i))],
        }
    ]


def trl_text(i: int) -> list[dict[str, Any]]:
    return [{"prompt": asked(i), "chosen": good(i), "rejected": bad(i)}]


def trl_messages(i: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [SYSTEM, says("user", asked(i))],
            "chosen": [says("assistant", good(i))],
            "rejected": [says("assistant", bad(i))],
        }
    ]


def trl_implicit(i: int) -> list[dict[str, Any]]:
    turns = [SYSTEM, says("user", asked(i))]
    return [
        {
            "chosen": [*turns, says("assistant", good(i))],
            "rejected": [*turns, says("assistant", bad(i))],
        }
    ]


def llama_factory(i: int) -> list[dict[str, Any]]:
    return [
        {
            "conversations": [{"from": "human", "value": asked(i)}],
            "chosen": {"from": "gpt", "value": good(i)},
            "rejected": {"from": "gpt", "value": bad(i)},
        }
    ]


def demonstration(i: int) -> list[dict[str, Any]]:
    return [{"messages": [SYSTEM, says("user", asked(i)), says("assistant", good(i))]}]


def rows_of(make: Callable[[int], list[dict[str, Any]]], count: int = COUNT) -> list[Any]:
    return [row for i in range(count) for row in make(i)]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_json(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def parquet(path: Path, rows: list[Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_csv(path: Path, rows: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", rows_of(trl_messages))


def recipe(model: Path, data: Path, out: Path, /, **settings: Any) -> RunConfig:
    """Three steps of four pairs in fp32; `train` and `evaluate` are added to, not replaced."""
    base: dict[str, Any] = {
        "name": "desk",
        "out": str(out),
        "model": str(model),
        "data": {"path": str(data), "heldout": 0.2},
        "adapter": {"rank": 4},
        "optim": {"lr": 5e-3},
        "train": {
            "batch_size": 4,
            "max_steps": 3,
            "eval_every": 2,
            "precision": "fp32",
            "tokens_per_microbatch": 400,
        },
        "evaluate": {"samples": 4, "max_new_tokens": 6},
    }
    for key, value in settings.items():
        merge = isinstance(value, dict) and key in {"train", "evaluate", "data"}
        base[key] = {**base[key], **value} if merge else value
    return RunConfig.model_validate(base)


def losses(folder: Path, kind: str = "train") -> list[float]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [line["loss"] for line in lines if line["kind"] == kind]


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([byte_tokenizer()("Question 3: abc")["input_ids"]])
    with torch.no_grad():
        return model.eval()(ids).logits  # type: ignore[no-any-return]


KINDS: dict[str, tuple[Any, Any, str]] = {
    "openai-chat": (openai_chat, jsonl, "log.jsonl"),
    "openai-preference": (openai_preference, as_json, "pairs.json"),
    "trl-text": (trl_text, as_csv, "pairs.csv"),
    "trl-messages": (trl_messages, parquet, "pairs.parquet"),
    "trl-implicit": (trl_implicit, jsonl, "pairs.jsonl"),
    "llama-factory": (llama_factory, as_json, "pairs.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "sft"])
@pytest.mark.parametrize("kind", [*KINDS, "demonstrations"])
def test_each_kind_of_file(tmp_path: Path, model: Path, kind: str, method: str) -> None:
    make, write, name = KINDS.get(kind, (demonstration, jsonl, "demonstrations.jsonl"))
    data = write(tmp_path / name, rows_of(make))
    config = recipe(model, data, tmp_path / "runs", method=method)
    if kind == "demonstrations" and method == "dpo":
        with pytest.raises(IngestError, match="no usable pair"):
            train(config)
        return
    run = train(config)
    snapshot = read_snapshot(run.folder / "snapshot")
    found = [*snapshot.train, *snapshot.heldout]
    chosen = {(e.prompt[-1].content, e.completions[0].text) for e in found}
    assert chosen == {(asked(i), good(i)) for i in range(COUNT)}
    assert {e.prompt_key for e in snapshot.train}.isdisjoint(e.prompt_key for e in snapshot.heldout)
    assert run.results["method"]["name"] == method
    assert run.results["training"]["examples"] == len(snapshot.train)
    assert run.report.is_file()
    AutoModelForCausalLM.from_pretrained(run.model)
    first = losses(run.folder)[0]
    if method == "dpo":
        assert first == pytest.approx(LN2, abs=1e-6)
        assert all(len(e.completions) == 2 for e in found)
    else:
        assert first > 1  # nats a token, of a model that knows nothing
        assert run.results["step0"]["expected"] is None
        assert "accuracy" not in run.results["heldout"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path, pairs: Path) -> Run:
    """A run with a rule that lies in a file; other tests only read its folder."""
    home = tmp_path_factory.mktemp("finished")
    rule = home / "rules.py"
    rule.write_text("def short(prompt, answer):\n    return len(answer) < 6\n")
    settings = {"evaluate": {"rule": f"{rule}:short"}}
    return train(recipe(model, pairs, home / "runs", **settings))


def test_a_runs_folder(finished: Run) -> None:
    names = {p.name for p in finished.folder.iterdir()}
    assert names == {
        ".lock",
        "adapter",
        "checkpoints",
        "config.yaml",
        "environment.json",
        "heldout.jsonl",
        "metrics.jsonl",
        "model",
        "plan.json",
        "report.html",
        "results.json",
        "samples.jsonl",
        "snapshot",
    }
    assert load_config(finished.folder / "config.yaml") == finished.config
    assert json.loads((finished.folder / "results.json").read_text()) == finished.results
    forbidden = {".bin", ".pt", ".pth", ".pkl", ".pickle"}
    assert not [p for p in finished.folder.rglob("*") if p.suffix in forbidden]


def test_what_the_results_say(finished: Run) -> None:
    results = finished.results
    assert set(results) == {
        "best_step",
        "comparison",
        "data",
        "heldout",
        "method",
        "rollouts",
        "step0",
        "stopped_early",
        "training",
    }
    assert (results["best_step"], results["stopped_early"]) == (None, False)
    assert (results["data"], results["rollouts"]) == ("pair", None)
    assert results["step0"]["loss"] == pytest.approx(LN2, abs=1e-6)
    assert results["step0"]["expected"] == pytest.approx(LN2)
    assert results["method"] == {"name": "dpo", "beta": 0.1}
    snapshot = read_snapshot(finished.folder / "snapshot")
    held = results["heldout"]
    assert held["n"] == len(snapshot.heldout) >= 1
    low, high = held["accuracy_interval"]
    assert 0 <= low <= held["accuracy"] <= high <= 1
    training = results["training"]
    lines = [x for x in read_metrics(finished.folder / "metrics.jsonl") if x["kind"] == "train"]
    assert training["steps"] == len(lines) == 3
    assert training["examples"] == len(snapshot.train)
    assert training["lr"] == 5e-3
    for key in ("unique_tokens", "path_tokens"):
        assert training[key] == sum(line[key] for line in lines)
    assert training["sharing"] == training["path_tokens"] / training["unique_tokens"] > 1
    seconds = sum(line["seconds"] for line in lines)
    assert training["seconds"] == pytest.approx(seconds)
    assert training["pairs_per_second"] == pytest.approx(
        sum(x["examples"] for x in lines) / seconds
    )


def test_answers_before_and_after_are_scored_by_the_rule(finished: Run) -> None:
    file = finished.folder / "samples.jsonl"
    before, after = read_answers(file, "before"), read_answers(file, "after")
    assert len(before) == len(after) >= 1
    assert [a.group for a in before] == [a.group for a in after]
    for answer in (*before, *after):
        assert answer.result is not None
        assert answer.result.passed == (len(answer.text) < 6)
    assert all(a.kl is None for a in before)
    assert all(a.kl is not None for a in after)
    comparison = finished.results["comparison"]
    share = sum(a.result.passed for a in after if a.result) / len(after)
    assert comparison["after"]["share"] == pytest.approx(share)
    assert comparison["kl"] == pytest.approx(sum(a.kl or 0 for a in after) / len(after))


def test_the_shipped_model_is_base_plus_adapter(finished: Run, model: Path) -> None:
    shipped = AutoModelForCausalLM.from_pretrained(finished.model)
    base = AutoModelForCausalLM.from_pretrained(model)
    beside = PeftModel.from_pretrained(base, finished.folder / "adapter")
    assert (logits(shipped) - logits(beside)).abs().max() < 1e-5
    assert (logits(shipped) - logits(tiny_model())).abs().max() > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(finished.model)
    assert tokenizer.chat_template == byte_tokenizer().chat_template


def test_the_loss_falls(finished: Run) -> None:
    train_losses, held = losses(finished.folder), losses(finished.folder, "heldout")
    assert train_losses[-1] < train_losses[0]
    assert held[-1] < held[0] == pytest.approx(LN2, abs=1e-6)


def test_a_complete_run_is_left_as_it_is(finished: Run) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(p): (p.stat().st_mtime_ns, p.stat().st_size)
            for p in finished.folder.rglob("*")
            if p.is_file()
        }

    class Noted(Quiet):
        notes: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.notes.append(text)

    before = state()
    again = train(finished.config.model_copy(update={"resume": "auto"}), reporter=Noted())
    assert again.results == finished.results
    assert state() == before
    assert Noted.notes == [f"{finished.folder} is complete already"]


def test_the_package_is_the_function(finished: Run) -> None:
    again = palate.train(finished.config.model_copy(update={"resume": "auto"}))
    assert again.results == finished.results


def comparable(run: Run) -> tuple[Any, ...]:
    """All that must not depend on whether a run was interrupted."""
    lines = read_metrics(run.folder / "metrics.jsonl")
    for line in lines:
        line.pop("seconds", None)
    results = json.loads((run.folder / "results.json").read_text())
    for key in ("seconds", "pairs_per_second"):
        results["training"].pop(key)
    samples = (run.folder / "samples.jsonl").read_text()
    weights = (run.model / "model.safetensors").read_bytes()
    return lines, results, samples, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path, pairs: Path) -> Run:
    """What an uninterrupted run gives."""
    return train(recipe(model, pairs, tmp_path_factory.mktemp("whole")))


def stop_at(step: int, folder: Path) -> Callable[[], bool]:
    """True once metrics.jsonl tells of the step."""
    file = folder / "metrics.jsonl"

    def should_stop() -> bool:
        lines = read_metrics(file) if file.exists() else []
        return any(line["kind"] == "train" and line["step"] >= step for line in lines)

    return should_stop


def test_a_stop_outside_training_is_obeyed_and_resumed(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    config = recipe(model, pairs, tmp_path)
    with pytest.raises(Interrupted, match="stopped outside training") as stopped:
        train(config, should_stop=lambda: True)
    assert stopped.value.step is None
    assert not (config.folder / "metrics.jsonl").exists()
    run = train(config.model_copy(update={"resume": "auto"}))
    assert run.results["training"]["steps"] == 3


def test_other_weights_under_the_same_name_are_refused(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    mine = tmp_path / "model"
    shutil.copytree(model, mine)
    config = recipe(mine, pairs, tmp_path)
    with pytest.raises(Interrupted):
        train(config, should_stop=stop_at(1, config.folder))
    save_tiny(mine, seed=9)
    with pytest.raises(ConfigError, match="holds other weights"):
        train(config.model_copy(update={"resume": "auto"}))


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3])
def test_interrupted_and_continued_is_the_same_run(
    tmp_path: Path, model: Path, pairs: Path, whole: Run, step: int
) -> None:
    config = recipe(model, pairs, tmp_path / "parts")
    with pytest.raises(Interrupted):
        train(config, should_stop=stop_at(step, config.folder))
    assert not (config.folder / "results.json").exists()
    parts = train(config.model_copy(update={"resume": "auto"}))
    assert comparable(parts) == comparable(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "crash",
    ["with_kl", "write_answers", "summarise", "_ship", "results_of", "write_json", "write_report"],
)
def test_a_crash_after_training_is_continued_without_repeating_lines(
    tmp_path: Path,
    model: Path,
    pairs: Path,
    whole: Run,
    monkeypatch: pytest.MonkeyPatch,
    crash: str,
) -> None:
    config = recipe(model, pairs, tmp_path / "parts")
    real, calls = getattr(running, crash), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if crash == "write_answers" and calls == 1:  # those before training
            return real(*args, **kwargs)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(running, crash, broken)
        with pytest.raises(OSError, match="No space"):
            train(config)
    parts = train(config.model_copy(update={"resume": "auto"}))
    assert comparable(parts) == comparable(whole)
    assert parts.report.is_file()


@pytest.mark.slow
def test_a_crash_before_training_is_continued(
    tmp_path: Path, model: Path, pairs: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for crash in ("_freeze", "assemble", "sample_answers", "run_loop"):
        config = recipe(model, pairs, tmp_path / crash)

        def broken(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(running, crash, broken)
            with pytest.raises(KeyboardInterrupt):
                train(config)
        parts = train(config.model_copy(update={"resume": "auto"}))
        assert comparable(parts) == comparable(whole), crash


@pytest.mark.slow
def test_full_fine_tuning(tmp_path: Path, model: Path, pairs: Path) -> None:
    run = train(recipe(model, pairs, tmp_path, adapter={"kind": "full"}))
    assert run.results["step0"]["loss"] == pytest.approx(LN2, abs=1e-6)
    assert not (run.folder / "adapter").exists()
    shipped = AutoModelForCausalLM.from_pretrained(run.model)
    assert (logits(shipped) - logits(tiny_model())).abs().max() > 1e-3
    assert run.results["comparison"]["kl"] is not None
    assert losses(run.folder)[-1] < LN2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_live_reference_equals_the_cached_one(
    tmp_path: Path, model: Path, pairs: Path, kind: str
) -> None:
    found = {}
    for reference in ("cached", "live"):
        settings = {"train": {"reference": reference}, "adapter": {"kind": kind, "rank": 4}}
        run = train(recipe(model, pairs, tmp_path / reference, **settings))
        found[reference] = losses(run.folder) + losses(run.folder, "heldout")
    assert found["live"] == pytest.approx(found["cached"], abs=1e-6)
    assert len(set(found["live"])) > 3


@pytest.mark.slow
def test_the_plain_layout_equals_the_tree(tmp_path: Path, model: Path, pairs: Path) -> None:
    found = {}
    for layout in ("tree", "plain"):
        run = train(recipe(model, pairs, tmp_path / layout, train={"layout": layout}))
        found[layout] = losses(run.folder) + losses(run.folder, "heldout")
        sharing = run.results["training"]["sharing"]
        assert sharing > 1.3 if layout == "tree" else sharing == 1.0
    assert found["plain"] == pytest.approx(found["tree"], abs=1e-5)


def test_nothing_held_out(tmp_path: Path, model: Path, pairs: Path) -> None:
    run = train(recipe(model, pairs, tmp_path, data={"heldout": 0}))
    assert run.results["heldout"] is None
    assert run.results["comparison"] is None
    assert run.results["training"]["examples"] == COUNT
    assert not losses(run.folder, "heldout")
    assert not (run.folder / "samples.jsonl").exists()
    assert run.report.is_file()


def test_no_samples_wanted(tmp_path: Path, model: Path, pairs: Path) -> None:
    run = train(recipe(model, pairs, tmp_path, evaluate={"samples": 0}))
    assert run.results["comparison"] is None
    assert run.results["heldout"]["n"] >= 1


RULES = {
    "missing": ("", "there is no file"),
    "syntax": ("def short(:", "cannot be imported: SyntaxError"),
    "raises": ("raise KeyError('x')", "cannot be imported: KeyError"),
    "name": ("def shart(p, a): return True", "has no function 'short'.*'shart'"),
}


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_that_cannot_be_loaded_stops_before_any_work(
    tmp_path: Path, model: Path, pairs: Path, kind: str
) -> None:
    text, said = RULES[kind]
    file = tmp_path / "rules.py"
    if text:
        file.write_text(text)
    settings = {"evaluate": {"rule": f"{file}:short"}}
    with pytest.raises(ValueError, match=said):
        train(recipe(model, pairs, tmp_path / "runs", **settings))
    assert not (tmp_path / "runs").exists()


def test_a_rule_that_fails_on_an_answer_is_named(tmp_path: Path, model: Path, pairs: Path) -> None:
    (tmp_path / "rules.py").write_text("def short(prompt, answer):\n    return 1 / 0\n")
    settings = {"evaluate": {"rule": f"{tmp_path / 'rules.py'}:short"}}
    with pytest.raises(ValueError, match=r"rules.py:short' failed.*ZeroDivisionError"):
        train(recipe(model, pairs, tmp_path / "runs", **settings))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("dp0", "no method is called 'dp0'; did you mean 'dpo'"),
        ({"name": "dpo", "betta": 1}, "no parameter 'betta'; did you mean 'beta'"),
        ({"name": "dpo", "beta": -1}, "beta of dpo must be above 0"),
    ],
)
def test_a_wrong_method_stops_before_any_work(
    tmp_path: Path, model: Path, pairs: Path, method: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        train(recipe(model, pairs, tmp_path / "runs", method=method))
    assert not (tmp_path / "runs").exists()


def test_a_file_without_a_usable_row_lists_what_was_refused(tmp_path: Path, model: Path) -> None:
    data = tmp_path / "bad.jsonl"
    rows = [
        "{broken",
        json.dumps({"prompt": "a", "chosen": "b"}),
        json.dumps({"prompt": "a", "chosen": "same", "rejected": "same"}),
        json.dumps({"prompt": "a", "chosen": "", "rejected": "x"}),
    ]
    data.write_text("\n".join(rows) + "\n")
    config = recipe(model, data, tmp_path / "runs")
    with pytest.raises(IngestError) as said:
        train(config)
    listed = config.folder / "rejects.jsonl"
    assert str(listed) in str(said.value)
    assert "\n" not in str(said.value)
    found = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted(row["line"] for row in found) == [1, 2, 3, 4]
    assert {row["line"]: row["reason"] for row in found}[1] == "broken-json"
    assert all(row["source"] == str(data) for row in found)


def test_rows_that_only_a_filter_refuses_are_listed_too(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    config = recipe(model, pairs, tmp_path / "runs", data={"max_length": 20})
    with pytest.raises(IngestError, match=r"no usable pair.*too-long 14.*rejects.jsonl"):
        train(config)
    found = (config.folder / "rejects.jsonl").read_text().splitlines()
    assert len(found) == COUNT
    # The next attempt, with a limit that fits, begins in a clean folder.
    run = train(recipe(model, pairs, tmp_path / "runs", evaluate={"samples": 0}))
    assert not (run.folder / "rejects.jsonl").exists()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["desk"]


REWRITING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "<|start|>{{ m['role'] }}\n{% if m['role'] != 'assistant' or loop.index0 == ns.last %}"
    "{{ m['content'] }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
"""Keeps only the last answer of a conversation, as templates of thinking models do."""


def test_rows_that_the_model_cannot_read_are_counted_under_their_reasons(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "gpt2")  # 1,024 learned positions
    byte_tokenizer(REWRITING).save_pretrained(folder)
    rows = rows_of(trl_messages)
    earlier = [says("user", "hi"), says("assistant", "hello"), says("user", "and now?")]
    rows.append({**trl_messages(90)[0], "prompt": earlier})
    rows.append({**trl_messages(91)[0], "chosen": [says("assistant", "x" * 1000)]})
    data = jsonl(tmp_path / "pairs.jsonl", rows)
    settings: dict[str, Any] = {"train": {"max_steps": 1}, "evaluate": {"samples": 0}}
    run = train(recipe(folder, data, tmp_path / "runs", **settings))
    snapshot = read_snapshot(run.folder / "snapshot")
    found = {(r.line, r.reason) for r in snapshot.rejects}
    assert found == {(COUNT + 1, "rewrites-history"), (COUNT + 2, "too-long")}
    assert snapshot.manifest.rejected == {"rewrites-history": 1, "too-long": 1}
    assert len(snapshot.train) + len(snapshot.heldout) == COUNT


def test_another_recipe_in_the_same_folder(tmp_path: Path, model: Path, pairs: Path) -> None:
    config = recipe(model, pairs, tmp_path)
    with pytest.raises(Interrupted):
        train(config, should_stop=stop_at(1, config.folder))
    changed = recipe(model, pairs, tmp_path, seed=1, resume="auto")
    with pytest.raises(ConfigError, match=r"other settings \(seed\)"):
        train(changed)
    # Without resume it begins anew, and the earlier run is still there.
    run = train(recipe(model, pairs, tmp_path, seed=1, evaluate={"samples": 0}))
    assert run.results["training"]["steps"] == 3
    assert (tmp_path / "desk.1" / "checkpoints" / "step-1").is_dir()
    assert load_config(tmp_path / "desk.1" / "config.yaml").seed == 0


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_best_steps_model_ships(
    tmp_path: Path, model: Path, pairs: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out loss is made to rise again after step 2."""
    losses = iter([0.69, 0.5, 0.3, 0.4, 0.5])
    monkeypatch.setattr(
        "palate.train.packing.measured", lambda *_: Measured(3, {"loss": next(losses)})
    )
    config = recipe(
        model,
        pairs,
        tmp_path,
        adapter={"kind": kind, "rank": 4},
        train={"best": "loss", "eval_every": 1, "max_steps": 4, "epochs": 4, "keep": 1},
        evaluate={"samples": 0},
    )
    run = train(config)
    best = run.results["best_step"]
    assert best == 2
    assert run.results["heldout"]["loss"] == 0.3
    assert not run.results["stopped_early"]
    kept = {p.name for p in (run.folder / "checkpoints").iterdir()}
    assert kept == {"step-2", "step-4"}
    stored = load_file(run.folder / "checkpoints" / f"step-{best}" / "weights.safetensors")
    if kind == "full":
        shipped = load_file(run.model / "model.safetensors")
        for name, value in shipped.items():
            assert torch.equal(value, stored[f"model.{name}"]), name
        return
    adapter = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == len(stored)
    for name, value in adapter.items():
        inner = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
        assert torch.equal(value, stored[f"model.{inner}"]), name
