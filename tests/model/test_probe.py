from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import tiny_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    GraniteConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import palate.model.probe as probing
from palate.model.attention import TREE_ATTENTION, tree_attention
from palate.model.load import silence_dropout
from palate.model.policy import Policy
from palate.model.probe import check_plain, probe

SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


def random_model(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    silence_dropout(model)
    return model.eval()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_families_whose_tree_is_exact(family: str) -> None:
    found = probe(Policy(tiny_model(family)))
    assert found.layout == "tree"
    assert found.difference is not None
    assert found.difference <= 1e-5


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SHAPE, sliding_window=9),
        Gemma2Config(**SHAPE, head_dim=8, sliding_window=9),
        GraniteConfig(**SHAPE, logits_scaling=3.0),
        GptOssConfig(**SHAPE, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
        OPTConfig(
            vocab_size=128,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=32,
        ),
    ],
    ids=lambda config: type(config).__name__,
)
def test_windows_caps_sinks_and_scales_are_exact(config: Any) -> None:
    found = probe(Policy(random_model(config)))
    assert found.layout == "tree", found.reason


def test_a_model_that_never_calls_the_attention_falls_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # its config says so too, and is asked first
    monkeypatch.setattr(probing, "beyond_the_probe", lambda config: None)
    small = {"vocab_size": 128, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2}
    found = probe(Policy(random_model(MambaConfig(**small, num_hidden_layers=2, pad_token_id=2))))
    assert found.layout == "plain"
    assert "called 0 times for 2 layers" in found.reason
    found = probe(Policy(random_model(BloomConfig(**small, n_layer=2, n_head=4, pad_token_id=2))))
    assert found.layout == "plain"


def leaky(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
    """A wrong attention: a whiff of the row's mean value, as a conv state would leak."""
    out, none = tree_attention(module, query, key, value, mask, **kwargs)
    return out + 1e-7 * value.mean(), none


def blind(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
    """A wrong attention: position ids taken for documents, so branches see no prompt."""
    forest = kwargs.pop("forest")
    import dataclasses

    cut = tuple(dataclasses.replace(s, position=0, context=()) for s in forest.segments)
    forest = dataclasses.replace(forest, segments=cut)
    return tree_attention(module, query, key, value, mask, forest=forest, **kwargs)


@pytest.mark.parametrize(
    ("wrong", "why"), [(leaky, "leak"), (blind, "does not see the shared beginning")]
)
def test_a_wrong_attention_is_found(wrong: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "tree_attention", wrong)
    found = probe(Policy(tiny_model()))
    assert found.layout == "plain"
    assert why in found.reason


def test_a_wrong_head_is_found() -> None:
    class Wrong(Policy):
        def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return super()._logits(hidden) * 1.01

    found = probe(Wrong(tiny_model()))
    assert found.layout == "plain"
    assert "nats a token" in found.reason


def test_the_probe_leaves_the_policy_as_it_was() -> None:
    policy = Policy(tiny_model(), layout="plain", precision="bf16")
    assert probe(policy).layout == "tree"
    assert (policy.layout, policy.precision) == ("plain", "bf16")
    assert ALL_ATTENTION_FUNCTIONS[TREE_ATTENTION] is tree_attention
    assert all(p.grad is None for p in policy.parameters())


def test_the_layout_to_fall_back_to_is_checked_as_well() -> None:
    class Wrong(Policy):
        def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return super()._logits(hidden) * 1.01

    assert check_plain(Policy(tiny_model("gpt2"))) is None
    assert "nats a token" in str(check_plain(Wrong(tiny_model())))


def test_position_rules_that_a_short_probe_cannot_show_are_not_trusted() -> None:
    model = tiny_model()
    model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0}
    assert "dynamic position scaling" in probe(Policy(model)).reason
    model = tiny_model()
    model.config.layer_types = ["full_attention", "chunked_attention"]
    assert "chunked_attention" in probe(Policy(model)).reason
