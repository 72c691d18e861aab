"""Which experiments there are: names and questions, without loading what runs them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palate.experiments.experiment import Experiment

LISTED = {
    "frontier": "How near does each method come to the exact reward-KL frontier?",
    "rlhf": "What does RLHF cost that DPO spares?",
    "ranking": "Does a reward model know more of the same pairs than DPO?",
    "over-optimisation": "When does more training make the true reward fall?",
    "displacement": "When does the chosen answer itself become less likely?",
    "length": "What does a taste of the annotators for long answers cost?",
    "noise": "What do wrong labels cost, and who minds them?",
    "thumbs": "What do thumbs cost that nearly all point one way?",
    "off-policy": "What are pairs worth that the model would not write itself?",
    "few-pairs": "How many pairs are enough?",
    "unseen": "How much goes to answers that are in no pair?",
    "cost": "How do time and memory grow with lengths, shared prompts and the model?",
    "format": "What do pairs teach that differ in their form only?",
}


def find(name: str) -> Experiment:
    """The experiment of that name: `EXPERIMENT` of the module that is called like it.

    Raises `ValueError` for a name that is not there.
    """
    if name not in LISTED:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(LISTED)}")
    found: Experiment = import_module(f"palate.experiments.{name.replace('-', '_')}").EXPERIMENT
    assert found.name == name, name
    return found
