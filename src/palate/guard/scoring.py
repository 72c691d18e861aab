"""A trained classifier's scores: the log-odds of unsafe, as its head gives them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from palate.curate.prepare import with_system
from palate.guard.metrics import Floats
from palate.guard.settings import Reading
from palate.model.fused import fuse, suits
from palate.model.load import load_tokenizer, to_compute, weights_at
from palate.model.place import pick_device
from palate.model.policy import Policy, silence_dropout
from palate.records import Example
from palate.tokens.render import Rendered, Renderer
from palate.tokens.sampler import cut
from palate.tokens.tree import build_forest

TOKENS = 4096
"""Of one forward pass; a row that is longer has one of its own."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """The classifier, and how rows are read for it."""

    policy: Policy
    renderer: Renderer
    system: str | None

    def render(self, example: Example) -> Rendered:
        """The row as tokens; raises `Unusable` with the reason for one that cannot be read."""
        if self.system is not None:
            example = with_system(example, self.system)
        return self.renderer.render(example.oriented("labelled"))

    @torch.no_grad()
    def scores(
        self,
        rows: Sequence[Rendered],
        advance: Callable[[int], None] = lambda count: None,
    ) -> Floats:
        """The head's value at each row's last token, in their order."""
        found = np.empty(len(rows))
        share = self.policy.layout == "tree"
        for part in cut(rows, range(len(rows)), TOKENS, share=share):
            branches = [rows[row].branches[0] for row in part]
            forest = build_forest(branches, share=share).to(self.policy.device)
            scores_B = self.policy(forest).scores_B
            found[part] = scores_B.double().cpu().numpy()
            advance(len(part))
        return found


def open_scorer(model: Path, reading: Reading, device: str = "auto") -> Scorer:
    """Load the classifier that a run ships; raises `ValueError` where it cannot be loaded."""
    tokenizer, _ = load_tokenizer(str(model))
    classifier = weights_at(AutoModelForSequenceClassification, str(model), str(model))
    silence_dropout(classifier)
    classifier.eval().requires_grad_(False).to(pick_device(device))
    policy = Policy(classifier, layout=reading.layout, precision=reading.precision).eval()
    # The head stays in fp32: a score's rounding is the threshold's.
    policy.scalar = copy.deepcopy(classifier.score)
    to_compute(classifier, reading.precision)
    if suits(policy.device.type, reading.precision, reading.layout):
        policy.fused = fuse(classifier)
    renderer = Renderer(
        tokenizer,
        template=reading.template,
        max_length=reading.max_length,
        max_prompt_length=reading.max_prompt_length,
        end_ids=reading.end_ids,
        prompts=True,
    )
    return Scorer(policy, renderer, reading.system)
