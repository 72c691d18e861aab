"""The start-up probe: is the token tree exact for this very model?

Three checks on a small forest of random tokens, before anything is trained: the
tree's attention was called once for every layer; the gradient of one branch's
log-probs with respect to its sibling's input embeddings is exactly 0 (the leak
test needs no tolerance); each branch equals the model's own plain forward. If one
fails, the run uses the plain layout and says why, after that one was compared with the
model's own forward as well. The probe is some thirty tokens long: a sliding window wider
than that is covered by tests of the attention, not by the probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from palate.model.attention import TREE_ATTENTION, tree_attention
from palate.model.policy import Layout, Policy
from palate.tokens.tree import Branch, Forest, build_forest

_SHARED, _PROMPT, _ANSWER = 12, 10, 7


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probe found: the layout to use, and in words why."""

    layout: Layout
    reason: str
    difference: float | None = None


# Position rules that look at the longest position of a batch, which the short probe cannot show.
_UNPROVEN_ROPE = ("dynamic", "longrope")
_PROVEN_LAYERS = {"full_attention", "sliding_attention"}


def probe(policy: Policy, tolerance: float = 1e-4) -> Probe:
    """Run the three checks; `tolerance` in nats per token is for fp32 weights."""
    beyond = beyond_the_probe(policy.model.config.get_text_config())
    if beyond is not None:
        return Probe("plain", beyond)
    try:
        return _probe(policy, tolerance)
    except Exception as error:  # noqa: BLE001 whatever a foreign model raises: not the tree
        return Probe("plain", f"the tree failed on this model: {type(error).__name__}: {error}")
    finally:
        AttentionInterface.register(TREE_ATTENTION, tree_attention)


def _probe(policy: Policy, tolerance: float) -> Probe:
    forest, branches = probe_forest(policy.model.config.get_text_config().vocab_size)
    forest = forest.to(policy.device)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return tree_attention(*args, **kwargs)

    AttentionInterface.register(TREE_ATTENTION, counted)
    was_layout, was_precision = policy.layout, policy.precision
    policy.layout, policy.precision = "tree", "fp32"
    try:
        leak, logps = _leak(policy, forest)
        layers = policy.model.config.get_text_config().num_hidden_layers
        if calls != layers:
            return Probe("plain", f"attention was called {calls} times for {layers} layers")
        if leak is not None:
            return Probe("plain", leak)
        difference = max(
            float((own - mine).abs().max())
            for own, mine in zip(_own(policy, branches), logps, strict=True)
        )
    finally:
        policy.layout, policy.precision = was_layout, was_precision
    if not difference <= tolerance:
        return Probe("plain", f"log-probs differ by {difference:.1e} nats a token", difference)
    return Probe("tree", f"exact to {difference:.1e} nats a token", difference)


def check_plain(policy: Policy, tolerance: float = 1e-4) -> str | None:
    """What is wrong with our padded layout and head for this model, or None.

    The layout to fall back to must itself equal the model's own forward.
    """
    _, branches = probe_forest(policy.model.config.get_text_config().vocab_size)
    forest = build_forest(branches, share=False).to(policy.device)
    was_layout, was_precision = policy.layout, policy.precision
    policy.layout, policy.precision = "plain", "fp32"
    try:
        with torch.no_grad():
            mine = policy(forest).token_logps_N
        difference = float((mine - torch.cat(_own(policy, branches))).abs().max())
    except Exception as error:  # noqa: BLE001 whatever a foreign model raises
        return f"{type(error).__name__}: {error}"
    finally:
        policy.layout, policy.precision = was_layout, was_precision
    if not difference <= tolerance:
        return f"log-probs differ by {difference:.1e} nats a token from the model's own"
    return None


def beyond_the_probe(config: Any) -> str | None:
    """Why a short probe could not vouch for the tree, judged from the config."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(v for v in rope.values() if isinstance(v, dict))]
    for kind in kinds:
        if kind.get("rope_type") in _UNPROVEN_ROPE:
            return f"{kind['rope_type']} position scaling depends on the batch's longest position"
    unknown = set(getattr(config, "layer_types", None) or ()) - _PROVEN_LAYERS
    if unknown:
        return f"layers of kind {', '.join(sorted(unknown))} are not known to be exact on a tree"
    return None


def probe_forest(vocabulary: int) -> tuple[Forest, list[Branch]]:
    """Two prompts under one beginning, two answers to each: fixed pseudo-random tokens."""
    draw = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(0, vocabulary, (count,), generator=draw).tolist()

    shared = tokens(_SHARED)
    branches = []
    for _ in range(2):
        prompt = shared + tokens(_PROMPT)
        for length in (_ANSWER, _ANSWER + 2):
            answer = tokens(length)
            branches.append(Branch(prompt + answer, [False] * len(prompt) + [True] * length))
    return build_forest(branches), branches


def _leak(policy: Policy, forest: Forest) -> tuple[str | None, list[Tensor]]:
    """Look at the gradients of two branches' log-probs at all packed tokens' embeddings.

    Returns what is wrong, if anything is, and the log-probs of every branch.
    """
    captured: list[Tensor] = []

    def capture(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        captured.append(leaf)
        return leaf

    hook = policy.model.get_input_embeddings().register_forward_hook(capture)
    try:
        with torch.enable_grad():
            out = policy(forest)
            sums = out.sums_B()
            last = forest.branches - 1
            grads = {
                b: torch.autograd.grad(sums[b], captured[0], retain_graph=b < last)[0]
                for b in (0, last)
            }
    finally:
        hook.remove()
    logps = [out.token_logps_N[forest.branches_N == b].detach() for b in range(forest.branches)]
    for branch, grad_1TD in grads.items():
        seen = grad_1TD[0].abs().amax(dim=-1) > 0
        on_path = _path_mask(forest, branch)
        if bool((seen & ~on_path).any()):
            return "leak: a branch depends on its sibling's tokens", logps
        if not bool(seen[forest.segments[0].end - 1]):
            return "a branch does not see the shared beginning", logps
    return None, logps


def _path_mask(forest: Forest, branch: int) -> Tensor:
    """True on the packed rows that lie on the branch's path."""
    predicted = forest.hidden_H[forest.rows_P[forest.predictions_N[forest.branches_N == branch]]]
    last = int(predicted.max())
    leaf = next(s for s in forest.segments if s.start <= last < s.end)
    mask = torch.zeros(forest.unique_tokens, dtype=torch.bool, device=forest.ids_T.device)
    for begin, end in (*leaf.context, (leaf.start, leaf.end)):
        mask[begin:end] = True
    return mask


@torch.no_grad()
def _own(policy: Policy, branches: list[Branch]) -> list[Tensor]:
    """The same log-probs by the model's own forward, one branch at a time."""
    policy.attend(policy.plain_attention)
    found = []
    for branch in branches:
        ids = torch.tensor([branch.ids], device=policy.device)
        logits = policy.model(input_ids=ids, use_cache=False).logits[0].float()
        logps = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
        mask = torch.tensor(branch.mask[1:], device=policy.device)
        found.append(logps[mask])
    return found
