"""GGUF of every family that converts, checked through llama.cpp where it is installed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import build
from tests.ship.runs import SYSTEM, save_run
from tests.ship.vocabularies import byte_level, sentencepiece
from transformers import AutoConfig, AutoModelForCausalLM

from palate.ship import gguf_export, gguf_file
from palate.ship.export import Wish, export
from palate.ship.families import FAMILIES, family_of, positions
from palate.ship.gguf_file import check_convertible, interleave, write_gguf
from palate.ship.llamacpp import opened
from palate.ship.parity import NotFaithful
from palate.ship.source import open_source
from palate.ship.vocabulary import check_tokenizer

gguf = pytest.importorskip("gguf")

try:
    import llama_cpp
except (ImportError, OSError, RuntimeError):
    llama_cpp = None
through_llamacpp = pytest.mark.skipif(
    llama_cpp is None, reason="llama.cpp is not installed: palate[llamacpp]"
)

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "phi3": {"tie_word_embeddings": False, "partial_rotary_factor": 0.5},
    "gemma": {"head_dim": 32},
    "gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
    | {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
    | {"num_hidden_layers": 7},
}
PIECES = {"mistral", "phi3", "gemma", "gemma2", "gemma3_text"}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def tokenizer_of(family: str) -> Any:
    return sentencepiece() if family in PIECES else byte_level()


def model_of(family: str, **more: Any) -> Any:
    """A random model of the family, in eager attention (the only one with Gemma 2's caps)."""
    size = {"vocab_size": len(tokenizer_of(family)) + 3}
    return build(family, {**SIZES, **size, **OWN[family], **more})


def run_of(home: Path, family: str, **more: Any) -> Path:
    return save_run(home, partial(model_of, family, **more), tokenizer_of(family))


def test_every_family_has_a_model_here() -> None:
    assert set(OWN) == set(FAMILIES)


@through_llamacpp
@pytest.mark.slow
@pytest.mark.parametrize("family", OWN)
def test_llamacpp_computes_the_trainers_model(family: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, family)
    done = export(run, Wish("gguf", quantize="f32"), tmp_path / "out")
    assert done.parity.kl < 1e-5, done.parity.sentence()
    assert done.parity.top1 > 0.98
    assert done.record["tokenisation"]["prompts"] == 3
    assert done.record["tokenisation"]["differing"] == []
    assert {p.name for p in done.folder.iterdir()} == {
        "Modelfile",
        "README.md",
        "manifest.json",
        "ship.json",
        "tiny-f32.gguf",
    }


@through_llamacpp
@pytest.mark.slow
def test_llama_3s_rotary_divisors(tmp_path: Path) -> None:
    run = run_of(tmp_path, "llama", rope_parameters=LLAMA3, max_position_embeddings=512)
    assert export(run, Wish("gguf", quantize="f32")).parity.kl < 1e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("gguf"), "llama")


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma2", "gemma3_text"])
def test_transformers_reads_the_same_weights_back(family: str, tmp_path: Path) -> None:
    """A second reader, which takes names in its own way (and of Qwen 3 no head_dim)."""
    model, tokenizer = model_of(family), tokenizer_of(family)
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "x.gguf"
    write_gguf(tmp_path / "model", model.config, tokenizer, (2,), path, kind="f32", name="x")
    back = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).state_dict()
    for name, tensor in model.state_dict().items():
        assert (back[name] - tensor).abs().max() < 1e-6, name


def test_rows_of_a_head_become_pairs() -> None:
    """One head of width 6: halves (0, 1, 2) and (3, 4, 5) are rotated as (0, 3), (1, 4), (2, 5)."""
    rows = torch.arange(12).reshape(12, 1)
    wanted = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert interleave(rows, 2).flatten().tolist() == wanted
    assert interleave(torch.arange(12), 2).tolist() == wanted


@through_llamacpp
@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_k_m"])
def test_quantised_kinds(run: Path, kind: str, tmp_path: Path) -> None:
    done = export(run, Wish("gguf", quantize=kind, max_kl=5.0), tmp_path / "out")
    types = {int(t.tensor_type) for t in gguf.GGUFReader(done.folder / f"tiny-{kind}.gguf").tensors}
    # Rows of 64 are too short for blocks of 256: llama.cpp takes the nearest type of 32.
    wanted = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_k_m": "Q5_0"}[kind]
    assert int(gguf.GGMLQuantizationType[wanted]) in types
    assert [p.name for p in done.folder.glob("*.gguf")] == [f"tiny-{kind}.gguf"]
    assert done.record["export"]["format"] == kind


@through_llamacpp
def test_less_bits_say_something_less_alike(run: Path, tmp_path: Path) -> None:
    kls = [
        export(run, Wish("gguf", quantize=kind, max_kl=5.0), tmp_path / kind).parity.kl
        for kind in ("f32", "q8_0", "q4_0")
    ]
    assert kls[0] < kls[1] < kls[2]


@through_llamacpp
def test_a_wrong_order_of_rows_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp loads it, and it even speaks: only the comparison sees it."""
    monkeypatch.setattr(gguf_file, "interleave", lambda tensor, heads: tensor)
    with pytest.raises(NotFaithful, match="it is not the trained model"):
        export(run, Wish("gguf", quantize="f32"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@through_llamacpp
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("Be", " end"), "encodes a held-out prompt otherwise"),
        (("Yes", " all"), "writes a held-out answer's tokens as"),
    ],
)
def test_exchanged_tokens_are_refused(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str],
    why: str,
) -> None:
    """The same weights, and two tokens have changed places: of the prompt, or of the answers."""
    ids = [byte_level()(word)["input_ids"] for word in words]
    assert [len(found) for found in ids] == [1, 1], "each word is one token"
    (first,), (second,) = ids
    whole = gguf.GGUFWriter.add_token_list

    def swapped(writer: Any, tokens: list[str]) -> None:
        tokens = list(tokens)
        tokens[first], tokens[second] = tokens[second], tokens[first]
        whole(writer, tokens)

    monkeypatch.setattr(gguf.GGUFWriter, "add_token_list", swapped)
    with pytest.raises(NotFaithful, match=why):
        export(run, Wish("gguf"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@through_llamacpp
def test_what_the_file_says(run: Path, tmp_path: Path) -> None:
    done = export(run, Wish("gguf"), tmp_path / "out")
    fields = gguf.GGUFReader(done.folder / "tiny-f16.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"
    assert fields["tokenizer.chat_template"].contents() == byte_level().chat_template
    assert fields["llama.context_length"].contents() == 2048
    written = (done.folder / "Modelfile").read_text()
    assert written.startswith("FROM ./tiny-f16.gguf\n")
    assert f'SYSTEM """{SYSTEM}"""' in written
    assert 'PARAMETER stop "<|im_end|>"' in written
    card = (done.folder / "README.md").read_text()
    assert "ollama create" in card
    assert "llama.cpp (llama-cpp-python" in card
    assert "| odd texts (numbers, scripts, spaces, code) | 0 of 10 differ |" in card


@pytest.mark.parametrize(
    ("family", "more", "why"),
    [
        ("gpt2", {}, "family gpt2 cannot be written"),
        ("llama", {"hidden_act": "gelu"}, "no activation gelu"),
        ("qwen2", {"rope_parameters": LLAMA3}, "no rotary embedding of type llama3"),
        ("gemma2", {"query_pre_attn_scalar": 7}, "no query_pre_attn_scalar 7"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "no other order of sliding windows"),
    ],
)
def test_what_llamacpp_does_not_compute_is_refused(
    family: str, more: dict[str, Any], why: str
) -> None:
    shape = {**SIZES, **OWN.get(family, {}), **more} if family != "gpt2" else {}
    with pytest.raises(ValueError, match=why):
        family_of(AutoConfig.for_model(family, **shape))


def test_a_window_that_llamacpp_leaves_out_bounds_the_context() -> None:
    config = AutoConfig.for_model("mistral", **SIZES, sliding_window=100)
    assert positions(family_of(config), config) == 100
    config = AutoConfig.for_model("qwen2", **SIZES, sliding_window=100, use_sliding_window=False)
    assert positions(family_of(config), config) == config.max_position_embeddings


def test_a_missing_runtime_is_said_before_any_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ValueError, match=r"pip install 'palate\[llamacpp\]'"):
        export(run, Wish("gguf"), tmp_path / "out")
    monkeypatch.setitem(sys.modules, "gguf", None)
    source = open_source(run)
    with pytest.raises(ValueError, match=r"pip install 'palate\[gguf\]'"):
        check_convertible(source.model_config, source.tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_reward_model_is_no_gguf(run: Path) -> None:
    source = open_source(run)
    from dataclasses import replace

    from palate.losses.registry import lookup

    scores = replace(source, method=lookup("reward"))
    with pytest.raises(ValueError, match="is a reward model"):
        gguf_export.refuse_gguf(scores)


def test_values_beyond_fp16_are_refused(tmp_path: Path) -> None:
    model = model_of("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e5
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="--quantize bf16"):
        write_gguf(
            *(tmp_path / "model", model.config, byte_level(), (2,), tmp_path / "x.gguf"),
            kind="f16",
            name="x",
        )
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "llama"


@through_llamacpp
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "sentencepiece"])
def test_texts_are_cut_as_the_tokenizer_cuts_them(pre: str, tmp_path: Path) -> None:
    """Each kind of tokenizer on the odd texts; numbers alone tell the first four apart."""
    tokenizer = sentencepiece() if pre == "sentencepiece" else byte_level(pre)
    model = build("llama", {**SIZES, "vocab_size": len(tokenizer), "num_hidden_layers": 1})
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "x.gguf"
    write_gguf(tmp_path / "model", model.config, tokenizer, (2,), path, kind="f16", name="x")
    with opened(path, 64) as runtime:
        for text in gguf_export._ODD:
            ours = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert runtime.tokens(text) == ours, text
            assert runtime.words(ours).strip() == text.strip()


def test_another_way_to_cut_is_refused() -> None:
    from tokenizers import pre_tokenizers

    tokenizer = byte_level("gpt-2")
    inner = tokenizer.backend_tokenizer
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(ValueError, match=r"not known under a name .* \(Punctuation, ByteLevel\)"):
        check_tokenizer(tokenizer)
