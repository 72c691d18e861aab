"""A reward model scores as transformers' sequence classifier does with what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.tiny import BOS, END, VOCABULARY, byte_tokenizer, save_tiny, tiny_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitNetConfig,
    LlamaConfig,
)

from palate.config import AdapterConfig
from palate.model.adapters import attach
from palate.model.policy import Layout, Policy
from palate.model.scalar import add_scalar_head, as_classifier, require_classifier
from palate.ship.merge import ship_adapter, ship_classifier
from palate.tokens.tree import Branch, build_forest


def answers() -> list[Branch]:
    """Answers of different lengths to two prompts that begin alike; all end in the end of turn."""
    branches = []
    for prompt, lengths in ((range(10, 22), (3, 9, 5)), (range(10, 18), (1, 6))):
        for number, length in enumerate(lengths):
            answer = [60 + 7 * number + i for i in range(length)]
            ids = [BOS, *prompt, *answer, END]
            mask = [False] * (1 + len(prompt)) + [True] * (length + 1)
            branches.append(Branch(ids, mask))
    return branches


def scored(policy: Policy, layout: Layout) -> Tensor:
    policy.layout = layout
    forest = build_forest(answers(), share=layout == "tree", min_shared=1)
    assert forest.shared == (layout == "tree")
    out = policy(forest)
    assert out.scores_B is not None
    assert float(out.sums_B().abs().max()) == 0
    assert out.counts_B().tolist() == [sum(b.mask) for b in answers()]
    return out.scores_B


def padded(tokenizer: Any) -> dict[str, Tensor]:
    """All branches as rows, padded on the right with the tokenizer's own padding token."""
    tokenizer.padding_side = "right"
    encoded = {"input_ids": [list(branch.ids) for branch in answers()]}
    return dict(tokenizer.pad(encoded, return_tensors="pt"))


def drawn(policy: Policy, seed: int = 1) -> None:
    """A head and adapters off zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or name.startswith("scalar"):
                parameter.normal_(std=0.3)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_saved_folder_scores_the_same(tmp_path: Path, family: str, kind: str) -> None:
    """Also where the tokenizer pads with the end of turn, which is every branch's last token."""
    base = save_tiny(tmp_path / "base", family)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.pad_token_id == END
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    adapted = attach(model, AdapterConfig(kind=kind, rank=4), seed=0)  # type: ignore[arg-type]
    policy = Policy(model).eval()
    add_scalar_head(policy)
    drawn(policy)
    with torch.no_grad():
        scores = scored(policy, "tree")
        torch.testing.assert_close(scored(policy, "plain"), scores, rtol=1e-5, atol=1e-5)
    assert policy.scalar is not None
    head, target = policy.scalar, tmp_path / "shipped"
    if adapted is None:
        ship_classifier(head, {END}, model, tokenizer, target)
    else:
        fresh = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        ship_adapter(
            adapted,
            fresh,
            tokenizer,
            target,
            tmp_path / "adapter",
            lambda merged, own, to: ship_classifier(head, {END}, merged, own, to),
        )
        assert isinstance(adapted, PeftModel)
    classifier, info = AutoModelForSequenceClassification.from_pretrained(
        target, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert classifier.config.num_labels == 1
    saved = AutoTokenizer.from_pretrained(target)
    assert saved.pad_token_id == classifier.config.pad_token_id != END
    with torch.no_grad():
        found = classifier.eval()(**padded(saved)).logits
    assert found.shape == (len(answers()), 1)
    assert float(scores.std()) > 0.1, "the scores tell answers apart"
    torch.testing.assert_close(found[:, 0], scores, rtol=1e-4, atol=1e-4)


def test_a_padding_token_of_its_own_stays() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "<|start|>"
    policy = Policy(tiny_model())
    add_scalar_head(policy)
    assert policy.scalar is not None
    classifier = as_classifier(policy.model, policy.scalar, tokenizer, {END})
    assert tokenizer.pad_token == "<|start|>"
    assert classifier.config.pad_token_id == tokenizer.pad_token_id
    assert policy.model.config.pad_token_id == END, "the policy's own config is left alone"


def test_no_token_to_pad_with_is_said() -> None:
    tokenizer = byte_tokenizer()
    policy = Policy(tiny_model())
    add_scalar_head(policy)
    assert policy.scalar is not None
    every = set(tokenizer.added_tokens_decoder)
    with pytest.raises(ValueError, match="no special token to pad with"):
        as_classifier(policy.model, policy.scalar, tokenizer, every)


def test_it_begins_at_zero_is_trained_and_reads_the_last_token() -> None:
    policy = Policy(tiny_model())
    add_scalar_head(policy)
    assert policy.scalar is not None
    assert policy.scalar.weight.dtype == torch.float32
    assert policy.scalar.weight.requires_grad
    assert float(scored(policy, "tree").abs().max()) == 0
    drawn(policy)
    hidden: list[Tensor] = []
    handle = policy.model.get_decoder().register_forward_hook(
        lambda module, inputs, out: hidden.append(out.last_hidden_state)
    )
    scores = scored(policy, "plain")
    handle.remove()
    last = [len(branch.ids) - 1 for branch in answers()]
    expected = hidden[0][torch.arange(len(last)), last] @ policy.scalar.weight[0]
    torch.testing.assert_close(scores, expected)


def test_in_bf16_the_head_computes_in_fp32() -> None:
    policy = Policy(tiny_model(), precision="bf16")
    add_scalar_head(policy)
    drawn(policy)
    scores = scored(policy, "tree")
    assert scores.dtype == torch.float32
    exact = Policy(tiny_model())
    add_scalar_head(exact)
    drawn(exact)
    torch.testing.assert_close(scores, scored(exact, "tree"), rtol=0.05, atol=0.05)


def test_a_family_without_a_classifier_is_refused() -> None:
    require_classifier(LlamaConfig(vocab_size=VOCABULARY))
    with pytest.raises(ValueError, match="has none for BitNetConfig: take another model"):
        require_classifier(BitNetConfig(vocab_size=VOCABULARY))
