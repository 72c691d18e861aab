from __future__ import annotations

import torch

from palate.losses.batch import Context, Demonstrations, Side
from palate.losses.registry import METHODS
from palate.losses.sft import SFT, sft


def test_it_is_the_summed_negative_log_prob() -> None:
    batch = Demonstrations(Side(torch.tensor([-3.0, -8.0]), None, torch.tensor([3, 4])))
    out = sft(batch, SFT(), Context())
    assert out.loss_B.tolist() == [3.0, 8.0]
    assert batch.completion.mean_logp_B.tolist() == [-1.0, -2.0]


def test_what_it_declares() -> None:
    method = METHODS["sft"]
    assert (method.shape, method.reference, method.normalise) == ("demonstration", False, "tokens")
