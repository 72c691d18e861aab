"""Exports for peft and transformers: what is in them, that they load, and what the gate refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.ship.runs import SYSTEM, adapted, save_run
from tests.tiny import END, byte_tokenizer, tiny_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from palate.durable import file_hash, verify_folder
from palate.ship import export as exporting
from palate.ship.export import Wish, export
from palate.ship.parity import NotFaithful

IDS = torch.tensor([[1, 2, 3, 200, 257, 5, 6]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def test_an_adapter_loads_in_peft_and_equals_the_trainers(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("adapter"), tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(run.parent / "base")
    loaded = PeftModel.from_pretrained(base, done.folder)
    model = tiny_model()
    adapted(model)
    assert (logits(loaded) - logits(model)).abs().max() < 1e-5
    assert (logits(loaded) - logits(tiny_model())).abs().max() > 1e-2
    assert done.parity.kl < 1e-6
    assert done.parity.top1 == 1
    names = {p.name for p in done.folder.iterdir()}
    assert {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "manifest.json",
        "ship.json",
        "tokenizer.json",
    } <= names
    verify_folder(done.folder)
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(run.parent / "base")
    assert AutoTokenizer.from_pretrained(done.folder)("ab")["input_ids"]


def test_merged_in_fp32_is_the_runs_model(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("merged"), tmp_path / "out")
    model = tiny_model()
    adapted(model)
    loaded = AutoModelForCausalLM.from_pretrained(done.folder)
    assert (logits(loaded) - logits(model)).abs().max() < 1e-5
    assert done.parity.kl < 1e-6
    assert file_hash(done.folder / "model.safetensors") == file_hash(
        run / "model" / "model.safetensors"
    )
    assert GenerationConfig.from_pretrained(done.folder).eos_token_id == [END]


def test_merged_in_bf16_is_rounded_and_measured(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("merged", dtype="bf16", max_kl=1.0), tmp_path / "out")
    weights = load_file(done.folder / "model.safetensors")
    exact = load_file(run / "model" / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    for name, weight in weights.items():
        assert torch.equal(weight, exact[name].bfloat16()), name
    assert AutoModelForCausalLM.from_pretrained(done.folder, dtype="auto").dtype == torch.bfloat16
    # Rounding moves the model, unlike a copy of it; a limit between the two tells them apart.
    fp32 = export(run, Wish("merged"), tmp_path / "fp32")
    assert done.parity.kl > 1e-6 > fp32.parity.kl
    with pytest.raises(NotFaithful, match="nats a token"):
        export(run, Wish("merged", dtype="bf16", max_kl=1e-6), tmp_path / "no")


def test_what_the_record_says(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("merged"), tmp_path / "out")
    record = json.loads((done.folder / "ship.json").read_text())
    assert record == json.loads(json.dumps(done.record))
    manifest = json.loads((run / "snapshot" / "manifest.json").read_text())
    assert record["data"]["content_hash"] == manifest["content_hash"]
    assert record["data"]["rows"] == {"train": 6, "heldout": 3, "rejects": 0}
    assert record["data"]["sources"] == ["pairs.jsonl"]
    assert record["config_sha256"] == file_hash(run / "config.yaml")
    assert record["figures"]["heldout"]["accuracy"] == 1.0
    assert record["parity"]["passed"] is True
    assert record["parity"]["tokens"] == sum(len(t) for t in answers(run))
    assert record["gate"] is None
    assert record["versions"]["export"]["transformers"]
    assert set(record["files"]) >= {"model.safetensors", "tokenizer.json", "config.json"}


def answers(run: Path) -> list[list[int]]:
    """The byte tokens of each held-out answer, with the end that every one has."""
    from palate.store.snapshot import read_snapshot

    said = [c.text for e in read_snapshot(run / "snapshot").heldout for c in e.completions]
    return [[*text.encode(), END] for text in said]


def test_what_the_card_says(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("merged"), tmp_path / "out")
    card = (done.folder / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    parsed = yaml.safe_load(front)
    assert parsed["library_name"] == "transformers"
    assert parsed["pipeline_tag"] == "text-generation"
    assert {"palate", "dpo", "arxiv:2305.18290"} <= set(parsed["tags"])
    assert "base_model" not in parsed  # a folder is nothing that the hub could link
    for said in (
        done.record["data"]["content_hash"],
        done.record["base"]["sha256"],
        "Rafailov et al. 2023",
        "100\N{NARROW NO-BREAK SPACE}% [44,",
        "| limit of the mean | 1e-4 nats a token |",
        "not evaluated (`palate eval`)",
        f"> {SYSTEM}",
        "AutoModelForCausalLM.from_pretrained",
        "vllm serve",
        "licence is not known",
    ):
        assert said in body, said


def test_a_verdict_of_the_gate_and_a_licence_are_told(tmp_path: Path) -> None:
    run = save_run(tmp_path)
    (run.parent / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\nA base.\n")
    (run / "evaluation").mkdir()
    verdict = {"gate": {"passed": False, "reasons": ["length"]}}
    (run / "evaluation" / "report.json").write_text(json.dumps(verdict))
    done = export(run, Wish("adapter"))
    assert done.folder == run / "export" / "adapter"
    assert done.record["gate"] == verdict["gate"]
    card = (done.folder / "README.md").read_text()
    assert "**not passed**" in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    (run / "evaluation" / "report.json").write_text("[] half")
    assert export(run, Wish("adapter")).record["gate"] is None


def test_a_broken_export_is_refused_and_nothing_is_left(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One matrix with its rows in another order: every program would load it without a word."""
    whole = exporting.write_merged

    def broken(source: Any, folder: Path, dtype: Any) -> None:
        whole(source, folder, dtype)
        weights = load_file(folder / "model.safetensors")
        name = "model.layers.0.self_attn.q_proj.weight"
        weights[name] = weights[name].flip(0).contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(exporting, "write_merged", broken)
    with pytest.raises(NotFaithful, match="it is not the trained model"):
        export(run, Wish("merged"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_stands_when_the_next_is_refused(run: Path, tmp_path: Path) -> None:
    first = export(run, Wish("merged"), tmp_path / "out")
    with pytest.raises(NotFaithful):
        export(run, Wish("merged", dtype="bf16", max_kl=0.0), tmp_path / "out")
    assert verify_folder(first.folder)["kind"] == "export"
    weights = load_file(first.folder / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_what_others_put_beside_an_export_is_not_deleted(run: Path, tmp_path: Path) -> None:
    first = export(run, Wish("adapter"), tmp_path / "out")
    again = export(run, Wish("adapter"), tmp_path / "out")  # nothing of others: replaced
    assert verify_folder(again.folder)["kind"] == "export"
    for name in (".git", "notes.txt", "empty"):
        path = first.folder / name
        if name == "notes.txt":
            path.write_text("mine")
        else:
            path.mkdir()
        if name == ".git":
            (path / "HEAD").write_text("mine")
        with pytest.raises(ValueError, match="earlier export with something else in it") as caught:
            export(run, Wish("adapter"), tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
        assert path.exists()
        path.rename(tmp_path / f"kept-{name}")


def test_out_may_be_a_link_or_the_folder_one_is_in(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    export(run, Wish("adapter"), tmp_path / "link")
    assert verify_folder(real)["kind"] == "export"
    assert (tmp_path / "link").is_symlink()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert export(run.resolve(), Wish("adapter"), Path()).folder == here
    assert verify_folder(here)["kind"] == "export"
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link", "here"}


def test_every_weight_trained(tmp_path: Path) -> None:
    run = save_run(tmp_path, adapter="full")
    done = export(run, Wish("merged"))
    assert done.parity.kl < 1e-12
    assert "| trained | every weight |" in (done.folder / "README.md").read_text()
    with pytest.raises(ValueError, match="has no adapter: use --to merged"):
        export(run, Wish("adapter"))


def test_what_is_refused_before_any_work(tmp_path: Path) -> None:
    run = save_run(tmp_path)
    for wish, why in (
        ({"to": "onnx"}, "--to is one of"),
        ({"to": "merged", "dtype": "int8"}, "--dtype is one of"),
    ):
        with pytest.raises(ValueError, match=why):
            Wish(**wish)  # type: ignore[arg-type]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="something else than an export"):
        export(run, Wish("merged"), other)
    assert (other / "thesis.tex").is_file()
    tiny_model(seed=9).save_pretrained(run.parent / "base")
    with pytest.raises(ValueError, match="other weights than when"):
        export(run, Wish("merged"))
    (run / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not match its checksum"):
        export(run, Wish("merged"))
    (run / "results.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        export(run, Wish("merged"))


def test_a_run_beside_a_base_in_4_bits_is_merged_into_the_whole_weights(tmp_path: Path) -> None:
    run = save_run(tmp_path, model={"path": str(tmp_path / "base"), "quantize": "nf4"})
    done = export(run, Wish("merged"))
    assert done.parity.kl < 1e-6
    card = (done.folder / "README.md").read_text()
    assert "in 4 bits (NF4)" in card
    assert "not in the 4 bits that the adapter was trained beside" in card
    assert "KL(trainer" not in card


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model's run: the classifier in `model/`, its adapter beside it."""
    from palate.ship.merge import ship_classifier

    run = save_run(tmp_path_factory.mktemp("scoring"), method="reward")
    head = torch.nn.Linear(32, 1, bias=False)
    torch.manual_seed(3)
    torch.nn.init.normal_(head.weight)
    model = tiny_model()
    peft = adapted(model)
    ship_classifier(head, {END}, peft.merge_and_unload(), byte_tokenizer(), run / "model")
    return run


def test_a_reward_model_ships_merged_and_scores_the_same(scoring: Path, tmp_path: Path) -> None:
    done = export(scoring, Wish("merged"), tmp_path / "out")
    loaded, trained = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval()
        for folder in (done.folder, scoring / "model")
    )
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, trained(IDS).logits)
    assert done.record["parity"]["unit"] == "text"
    assert done.parity.kl == 0
    card = (done.folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "text-classification"
    assert "AutoModelForSequenceClassification" in card
    rounded = export(scoring, Wish("merged", dtype="bf16", max_kl=1.0), tmp_path / "bf16")
    assert rounded.parity.kl > 0
    with pytest.raises(ValueError, match="head is no part of an adapter"):
        export(scoring, Wish("adapter"))
