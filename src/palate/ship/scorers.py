"""Who says the logits: the trainer's model, and an export as transformers and peft load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from palate.model.adapters import beside
from palate.model.foreign import check_folder
from palate.model.load import load, weights_hash
from palate.ship.parity import Scorer
from palate.ship.source import Source
from palate.ship.texts import Text

NOT_IN_4_BITS = ": the base unquantised, not in the 4 bits that the adapter was trained beside"


def trainer_scorer(source: Source, *, merged: bool = False) -> tuple[Scorer, str]:
    """The trainer's model, and what it is in words.

    Base and adapter side by side, as they were trained, in fp32; with `merged`, of a run
    that trained every weight, or of a classifier, the model that the run wrote. Raises
    `ValueError` where the base is not there any more or has other weights.
    """
    not_it = NOT_IN_4_BITS if source.config.model.quantize == "nf4" else ""
    if merged or source.adapter is None or source.scores:
        return transformers_scorer(source, source.model), f"the model that the run wrote{not_it}"
    both = beside(base_model(source), source.adapter)
    return _scorer(both.eval()), f"the run's base and adapter, side by side in fp32{not_it}"


def adapter_scorer(source: Source, folder: Path) -> Scorer:
    """The run's base with the adapter in `folder`, through peft."""
    return _scorer(beside(base_model(source), folder).eval())


def transformers_scorer(source: Source, folder: Path) -> Scorer:
    """The whole model in `folder`, in the precision that its config names."""
    kind: Any = AutoModelForSequenceClassification if source.scores else AutoModelForCausalLM
    check_folder(folder)
    model = kind.from_pretrained(
        folder,
        dtype="auto",
        trust_remote_code=source.config.model.trust_remote_code,
        use_safetensors=True,
    )
    return _classifier(model.eval()) if source.scores else _scorer(model.eval())


def base_model(source: Source) -> Any:
    """The model that the run started from, fp32; `ValueError` where it has changed."""
    path = source.config.model.path
    loaded = load(path, trust_remote_code=source.config.model.trust_remote_code)
    known = source.plan.base_sha256 if source.plan else None
    if known and weights_hash(loaded.model) != known:
        raise ValueError(
            f"{path} holds other weights than when {source.folder} was trained: the adapter "
            "belongs to the ones of before; bring them back"
        )
    return loaded.model


def _scorer(model: Any) -> Scorer:
    def score(text: Text) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits_TV = model(input_ids=torch.tensor([text.ids]), use_cache=False).logits[0]
        found: NDArray[np.float32] = logits_TV[[t - 1 for t in text.scored]].float().numpy()
        return found

    return score


def _classifier(model: Any) -> Scorer:
    def score(text: Text) -> NDArray[np.float32]:
        with torch.inference_mode():
            value = model(input_ids=torch.tensor([text.ids]), use_cache=False).logits[0].float()
        return np.array([[0.0, float(value[0])]], dtype=np.float32)

    return score
