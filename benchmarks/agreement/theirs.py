"""TRL's side, in TRL's own environment: its trainers' own loss functions on given log-probs.

    python -m agreement.theirs MATERIAL.json FAR.json FOUND.json

A real trainer is made for each case, from a real config, so that TRL's own checks and defaults
apply. What stands in is the model: it answers a forward pass with the material's log-probs, where
TRL would have computed them. No formula is written here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from torch import Tensor

from .cases import CASES, Case
from .material import Material, read_material

WORDS = 8  # of the tiny model
ANSWER, FILLER = 1, 1  # the token that every answer and every prompt is made of
FIRST_KEY = 2  # a sequence's first token says whose log-probs it has


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences that TRL sees at once."""

    chosen: list[int]
    rejected: list[int]
    mismatched: list[int]
    up: list[bool]


class Sequences:
    """The material's answers behind prompts, by key: chosen, then rejected, then mismatched."""

    def __init__(self, case: Case, material: Material) -> None:
        self.case = case
        self.dtype = torch.float64 if case.double else torch.float32
        self.pairs = len(material.chosen)
        answers = [*material.chosen, *material.rejected, *material.mismatched]
        self.policy = [self._leaf(a.policy) for a in answers]
        self.reference = [torch.tensor(a.reference, dtype=self.dtype) for a in answers]
        self.squares = [torch.tensor(a.log_sum_p2, dtype=self.dtype) for a in answers]
        self.scores = [self._leaf((a.score,)) for a in answers]

    def _leaf(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, requires_grad=True)

    def length(self, key: int) -> int:
        """Tokens of the answer."""
        return len(self.policy[key])

    def rows(self, keys: list[int]) -> dict[str, Tensor]:
        """Ids and masks, padded on the right."""
        width = max(self.case.prompt + self.length(key) for key in keys)
        ids = torch.zeros(len(keys), width, dtype=torch.long)
        attention, completion = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, key in enumerate(keys):
            end = self.case.prompt + self.length(key)
            ids[row, :end] = FILLER
            ids[row, 0] = FIRST_KEY + key
            attention[row, :end] = 1
            completion[row, self.case.prompt : end] = 1
        return {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}

    def groups(self) -> list[Group]:
        """The pairs that TRL sees at once."""
        size = self.case.group or self.pairs
        cut = [range(i, min(i + size, self.pairs)) for i in range(0, self.pairs, size)]
        return [
            Group(
                chosen=list(rows),
                rejected=[self.pairs + row for row in rows],
                mismatched=[2 * self.pairs + row for row in rows],
                up=[row % 2 == 0 for row in rows],
            )
            for rows in cut
        ]


class StandIn(torch.nn.Module):
    """A model whose log-probs are given: of the policy, or of the reference."""

    def __init__(self, sequences: Sequences, tokens: list[Tensor]) -> None:
        super().__init__()
        self.sequences, self.tokens = sequences, tokens

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **_: Any) -> Any:
        """What TRL reads of a forward pass, with gradients to the given numbers."""
        keys = (input_ids[:, 0] - FIRST_KEY).tolist()
        if self.sequences.case.trainer == "reward":
            return SimpleNamespace(logits=torch.stack([self.sequences.scores[key] for key in keys]))
        if labels is None:
            return SimpleNamespace(logits=self._logits(keys, input_ids))
        width = input_ids.shape[1] - 1
        log_probs = self._placed(keys, self.tokens, width)
        asked = labels[:, 1:] != -100
        assert bool((asked == (log_probs != 0)).all()), "TRL asks for the tokens of the answers"
        zeros = torch.zeros_like(log_probs)
        return SimpleNamespace(
            log_probs=log_probs,
            log_sum_sq_probs=self._placed(keys, self.sequences.squares, width),
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
        )

    def _placed(self, keys: list[int], tokens: list[Tensor], width: int) -> Tensor:
        """By row the answer's numbers at the places that predict them, 0 elsewhere."""
        before = self.sequences.case.prompt - 1
        rows = [
            torch.nn.functional.pad(tokens[key], (before, width - before - len(tokens[key])))
            for key in keys
        ]
        return torch.stack(rows)

    def _logits(self, keys: list[int], ids: Tensor) -> Tensor:
        """Logits under which `ANSWER` has the given log-prob, and another token the rest.

        Prompts' own tokens have probability ½, and the first prediction of a row is one of them.
        """
        placed = self._placed(keys, self.tokens, ids.shape[1] - 1)
        given = torch.where(placed == 0, torch.full_like(placed, -0.6931471805599453), placed)
        logits = torch.full((*ids.shape, int(ids.max()) + 1), -1e4, dtype=placed.dtype)
        logits[:, :-1, ANSWER] = given
        logits[:, :-1, 0] = torch.log(-torch.expm1(given))
        return logits


def inputs_of(case: Case, sequences: Sequences, group: Group) -> dict[str, Tensor]:
    """The group as the trainer's own collator would have it."""
    if case.trainer in {"dpo", "reward"}:
        rows = sequences.rows(group.chosen + group.rejected)
        if case.trainer == "reward":
            rows.pop("completion_mask")
        return rows
    if case.trainer == "kto":
        both = zip(group.chosen, group.rejected, group.up, strict=True)
        rows = sequences.rows([w if up else other for w, other, up in both])
        apart = sequences.rows(group.mismatched)
        rows |= {f"KL_{name}": value for name, value in apart.items()}
        return {**rows, "label": torch.tensor(group.up)}
    batch = {}
    for side, keys in (("chosen", group.chosen), ("rejected", group.rejected)):
        rows = sequences.rows(keys)
        batch[f"{side}_input_ids"] = rows["input_ids"]
        batch[f"{side}_attention_mask"] = rows["attention_mask"]
        batch[f"{side}_labels"] = rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)
    return batch


def compute(case: Case, material: Material, folder: str) -> dict[str, Any]:
    """By group TRL's loss, and its gradient by answer, as `agreement.ours` has them."""
    trainer = make_trainer(case, folder)
    sequences = Sequences(case, material)
    policy = StandIn(sequences, sequences.policy)
    trainer.ref_model = StandIn(sequences, sequences.reference)
    losses = [
        trainer.compute_loss(policy, inputs_of(case, sequences, group))
        for group in sequences.groups()
    ]
    torch.stack(losses).sum().backward()
    leaves = sequences.scores if case.trainer == "reward" else sequences.policy
    leaves = leaves[: 2 * sequences.pairs]
    return {
        "losses": [loss.item() for loss in losses],
        "gradients": [
            (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).tolist() for leaf in leaves
        ],
    }


def make_trainer(case: Case, folder: str) -> Any:
    """The trainer of a tiny model and of one example, with the case's options."""
    import trl
    from datasets import Dataset
    from trl.experimental import cpo, orpo

    makers = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
        "cpo": (cpo.CPOTrainer, cpo.CPOConfig),
        "orpo": (orpo.ORPOTrainer, orpo.ORPOConfig),
    }
    trainer, config = makers[case.trainer]
    example: dict[str, Any] = {"prompt": "a", "chosen": " b", "rejected": " c"}
    if case.trainer == "kto":
        example = {"prompt": "a", "completion": " b", "label": True}
    more: dict[str, Any] = {}
    given: dict[str, Any] = {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        **case.theirs,
    }
    if case.trainer in {"dpo", "kto"}:
        more["ref_model"] = tiny_model(scalar=False)
    return trainer(
        model=tiny_model(case.trainer == "reward"),
        args=config(**given),
        train_dataset=Dataset.from_list([example] * 8),
        processing_class=tiny_tokenizer(),
        **more,
    )


def tiny_model(scalar: bool) -> Any:
    """What a trainer wants to hold; its weights have no part in what is compared."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config.num_labels = 1
    return LlamaForSequenceClassification(config) if scalar else LlamaForCausalLM(config)


def tiny_tokenizer() -> Any:
    """Words of one letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *"abcde"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def main() -> None:
    """Every case, in the order of `CASES`."""
    import trl

    plain, far = (read_material(Path(name)) for name in sys.argv[1:3])
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found.append(compute(case, far if case.far else plain, folder))
    answer = {"trl": trl.__version__, "torch": torch.__version__, "found": found}
    Path(sys.argv[3]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
