"""The scalar head of a reward model: one number at the last token of each branch."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from palate.model.policy import Policy


def require_classifier(config: Any) -> None:
    """Raise `ValueError` for a model that transformers has no sequence classifier for."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ValueError(
            f"a reward model is saved as a sequence classifier, and transformers has none for "
            f"{type(config).__name__}: take another model"
        )


def add_scalar_head(policy: Policy) -> None:
    """Put a scalar head on the policy: fp32, trained, 0 at first (the loss begins at ln 2)."""
    require_classifier(policy.model.config)
    width = policy.model.config.get_text_config().hidden_size
    head = nn.Linear(width, 1, bias=False, device=policy.device)
    nn.init.zeros_(head.weight)
    policy.scalar = head


def as_classifier(model: Any, head: nn.Linear, tokenizer: Any, end_ids: set[int]) -> Any:
    """The model with the scalar head, as transformers' sequence classifier, fp32, one label.

    The classifier reads the last token that is not padding, so the tokenizer's padding token is
    changed where it is an end of turn.
    """
    config = type(model.config).from_dict(model.config.to_dict())
    config.num_labels = 1
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in end_ids:
        tokenizer.pad_token = _other_token(tokenizer, end_ids)
    config.pad_token_id = tokenizer.pad_token_id
    classifier = AutoModelForSequenceClassification.from_config(config).float()
    body = getattr(classifier, classifier.base_model_prefix)
    body.load_state_dict(getattr(model, model.base_model_prefix).state_dict())
    classifier.score.weight.data.copy_(head.weight.detach())
    return classifier.eval()


def _other_token(tokenizer: Any, end_ids: set[int]) -> str:
    """A control token that ends nothing."""
    for token_id, token in sorted(tokenizer.added_tokens_decoder.items()):
        if token.special and token_id not in end_ids:
            return str(token)
    raise ValueError(
        "the tokenizer has no special token to pad with besides its end of turn: add one to it"
    )
