"""Models that a tree cannot compute: a state that runs along the row, a convolution, no hook.

Each falls back to padded rows, which must then equal the model's own forward, or is refused;
what must not happen is a wrong result in silence.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.families import EXPERTS, IDS, VOCABULARY, build
from tests.forests import random_branches

import palate.model.probe as probing
from palate.config import ConfigError, RunConfig
from palate.model.policy import Policy
from palate.model.probe import check_plain, probe, probe_forest
from palate.progress import Quiet
from palate.tokens.tree import build_forest
from palate.train.setup import _choose_layout

SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, **IDS}
SHAPE: dict[str, Any] = {
    **SMALL,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
STATE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
LINEAR = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "full_attention_interval": 2,
}
SECOND = {"attn_layer_period": 2, "attn_layer_offset": 1}  # the second layer attends
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 16}
MOE = {k: v for k, v in EXPERTS.items() if k != "num_experts"}

STATEFUL: dict[str, dict[str, Any]] = {
    "mamba": {**SMALL, "num_hidden_layers": 2},
    "falcon_mamba": {**SMALL, "num_hidden_layers": 2},
    "mamba2": {
        **SMALL,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 1,
        "state_size": 8,
        "chunk_size": 8,
    },
    "qwen3_next": {**SHAPE, **LINEAR, **SHARED},
    "qwen3_5_text": {**SHAPE, **LINEAR},
    "lfm2": {**SHAPE, "layer_types": ["conv", "full_attention"]},
    "jamba": {**SHAPE, **EXPERTS, **SECOND, "mamba_d_state": 8, "use_mamba_kernels": False},
    "bamba": {**SHAPE, **STATE, "attn_layer_indices": [1]},
    "falcon_h1": {**SHAPE, **STATE, "mamba_n_heads": 4, "mamba_d_ssm": 32},
    "granitemoehybrid": {
        **SHAPE,
        **MOE,
        **STATE,
        "shared_intermediate_size": 16,
        "layer_types": ["mamba", "attention"],
    },
    "nemotron_h": {
        **SHAPE,
        "layers_block_type": ["mamba", "attention"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "zamba2": {
        **SHAPE,
        "layers_block_type": ["mamba", "hybrid"],
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "use_mem_rope": True,
        "adapter_rank": 4,
    },
    "recurrent_gemma": {
        **SHAPE,
        "lru_width": 32,
        "attention_window_size": 9,
        "block_types": ("recurrent", "attention"),
    },
    "minimax": {
        **SHAPE,
        **EXPERTS,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "block_size": 8,
    },
}
HOOKLESS: dict[str, dict[str, Any]] = {
    "bloom": {**SMALL, "n_layer": 2, "n_head": 4},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4},
    "falcon": {**SMALL, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    "rwkv": {**SMALL, "attention_hidden_size": 32, "num_hidden_layers": 2},
    "xlstm": {**SMALL, "num_hidden_layers": 2, "num_blocks": 2, "num_heads": 4},
}
UNFIT = {**STATEFUL, **HOOKLESS}
UNEXACT = {"recurrent_gemma", "xlstm"}
"""Those for which our padded rows and head are not the model's own forward either."""


def choose(policy: Policy, layout: str) -> Any:
    given = {"model": "m", "data": "d.jsonl", "train": {"layout": layout}}
    return _choose_layout(policy, RunConfig.model_validate(given), Quiet())


@pytest.mark.parametrize("family", UNFIT)
def test_it_falls_back_to_exact_rows_or_is_refused(family: str) -> None:
    policy = Policy(build(family, UNFIT[family]))
    found = probe(policy)
    assert found.layout == "plain"
    if family in STATEFUL:
        assert "are not known to be exact on a tree" in found.reason
    with pytest.raises(ConfigError, match="not exact for this model"):
        choose(policy, "tree")
    if family in UNEXACT:
        assert "nats a token" in str(check_plain(policy))
        for layout in ("auto", "plain"):
            with pytest.raises(ConfigError, match="cannot be trained exactly yet"):
                choose(policy, layout)
        return
    policy.layout = choose(policy, "auto").layout
    assert_exact(policy)


@torch.no_grad()
def assert_exact(policy: Policy) -> None:
    """On random branches, each through the model's own forward by itself, without padding."""
    assert policy.layout == "plain"
    for seed in range(4):
        branches = random_branches(seed)
        logps_N = policy(build_forest(branches, share=False)).token_logps_N
        own = []
        for branch in branches:
            ids = torch.tensor([branch.ids])
            logps = policy.model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
            own += [logps[t - 1, branch.ids[t]] for t, on in enumerate(branch.mask) if on]
        # as far as the probe looks: states are summed in another order when rows are padded
        assert float((logps_N - torch.stack(own)).abs().max()) <= 1e-4, seed


@pytest.mark.parametrize("family", STATEFUL)
def test_it_is_found_out_without_being_named(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new family's config need not name its layers as those we know do."""
    monkeypatch.setattr(probing, "beyond_the_probe", lambda config: None)
    assert probe(Policy(build(family, STATEFUL[family]))).layout == "plain"


@pytest.mark.parametrize("family", ["lfm2", "qwen3_next", "jamba", "bamba", "granitemoehybrid"])
def test_the_leak_alone_gives_a_state_away(family: str) -> None:
    """Even if all layers were counted: one branch's state has run through its sibling."""
    policy = Policy(build(family, STATEFUL[family]))
    forest, _ = probe_forest(VOCABULARY)
    assert "depends on its sibling's tokens" in str(probing._leak(policy, forest)[0])
