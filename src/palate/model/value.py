"""The value head of an actor-critic: what the answer will still earn, before each of its tokens."""

from __future__ import annotations

from torch import nn

from palate.model.policy import Policy


def add_value_head(policy: Policy) -> None:
    """Put a value head beside the policy's own: fp32, trained, 0 at first."""
    width = policy.model.config.get_text_config().hidden_size
    head = nn.Linear(width, 1, bias=True, device=policy.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    policy.value = head
