"""The memory of one of several ranks, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model.test_cost import SMALL

from palate.config import AdapterConfig
from palate.model import memory as alone
from palate.model.cost import Anatomy, Matrix, Work
from palate.model.sharding import GPU_PROGRAM, Division, Unit, division, rank_memory, units

FULL = AdapterConfig(kind="full")
LORA = AdapterConfig(rank=2)
ADAPTED = replace(SMALL, matrices=(Matrix("layers.0.q", 8, 16),))


def test_who_shares_what() -> None:
    assert division("ddp", 16, 8) == Division(shard=1, copies=16, machine=8)
    assert division("fsdp", 16, 8) == Division(shard=16, copies=1, machine=8)
    assert division("hybrid", 16, 8) == Division(shard=8, copies=2, machine=8)
    assert division("hybrid", 4, 8) == Division(shard=4, copies=1, machine=4)
    with pytest.raises(ValueError, match="12 ranks are not a whole number of machines of 8"):
        division("fsdp", 12, 8)


def test_units_of_full_training() -> None:
    # Of 1000 weights 10·8 are embedding and head in one; the other 920 are two layers.
    assert units(SMALL, FULL, "bf16") == (Unit(4 * 80, 80), Unit(4 * 460, 460))
    # Untied, embedding and head are 160, and the layers 840.
    untied = replace(SMALL, tied=False)
    assert units(untied, FULL, "fp32") == (Unit(4 * 160, 160), Unit(4 * 420, 420))


def test_units_beside_an_adapter() -> None:
    # Rank 2 on one 8×16 matrix: 2·(8 + 16) = 48 weights, 24 a layer, 4 bytes each. Frozen in bf16:
    # 600 of the layers' 920 weights have 2 bytes; the root is an fp32 embedding and a bf16 head.
    root, layer = units(ADAPTED, LORA, "bf16")
    assert root == Unit(4 * 80 + 2 * 80, 0)
    assert layer == Unit((2 * 600 + 4 * 320 + 4 * 48) / 2, 24)
    assert units(replace(ADAPTED, tied=False), LORA, "bf16")[0] == root
    root, layer = units(ADAPTED, LORA, "fp32")
    assert (root, layer) == (Unit(4 * 80, 0), Unit((4 * 920 + 4 * 48) / 2, 24))


def test_a_divided_model() -> None:
    found = rank_memory(SMALL, Work(scored=5), FULL, "bf16", division("fsdp", 4, 8))
    assert (found.weights, found.gradients, found.moments) == (1000, 1000, 2000)
    assert found.gathered == 320 + 2 * 1840, "the root, and two layers"
    assert found.unreduced == 320 + 2 * 1840, "and their gradients, fp32 as they are"
    assert found.rounded == 2 * (8 * 16 + 80), "the largest matrix of a layer, and the head"
    assert found.logits == alone.LOGITS_COPIES * 4 * 5 * 10
    assert found.loading == 1000 + 1840, "a share, and a layer that comes whole"
    assert found.host == 4000
    counted = 4000 + 4000 + 416 + found.logits
    assert found.total == GPU_PROGRAM + 4000 + alone.ALLOWANCE * counted


def test_a_large_vocabulary_outweighs_the_layers_at_the_end_of_the_backward_pass() -> None:
    # 4·8000 bytes: root gathered, and three times as gradient, where two layers are gone again.
    wide = replace(SMALL, vocabulary=1000, parameters=8920)
    found = rank_memory(wide, Work(), FULL, "fp32", division("fsdp", 4, 8))
    assert found.gathered + found.unreduced == 4 * 32_000
    untied = replace(wide, parameters=16_920, tied=False)
    found = rank_memory(untied, Work(), FULL, "fp32", division("fsdp", 4, 8))
    assert found.unreduced == 2 * 32_000 + 2 * 1840


def test_a_divided_model_with_an_adapter() -> None:
    found = rank_memory(ADAPTED, Work(), LORA, "bf16", division("fsdp", 2, 8), gpu=False)
    layer = (1200 + 1280 + 192) / 2
    assert found.program == alone.PROGRAM
    assert found.weights == (480 + 2 * layer) / 2
    assert (found.gradients, found.moments) == (4 * 48 / 2, 8 * 48 / 2)
    assert found.gathered == 480 + 2 * layer
    assert found.unreduced == layer, "a third layer on its way outweighs the adapters' gradients"
    assert found.rounded == 2 * 48


def test_copies_of_a_division_hold_what_one_holds() -> None:
    hybrid = rank_memory(SMALL, Work(), FULL, "fp32", division("hybrid", 16, 4))
    assert hybrid == rank_memory(SMALL, Work(), FULL, "fp32", division("fsdp", 4, 4))


def test_whole_weights_on_each_rank() -> None:
    """As in one process, and the buffer in which gradients are summed."""
    found = rank_memory(SMALL, Work(), FULL, "bf16", division("ddp", 4, 4))
    assert (found.weights, found.gradients, found.moments) == (4000, 4000, 8000)
    assert (found.gathered, found.unreduced) == (0, 64 * 2**20)
    assert found.rounded == 2 * (600 + 80)
    one = alone.memory(SMALL, Work(), FULL, "bf16", live_reference=False)
    assert found.weights == one.weights
    assert found.gradients + found.moments == one.trained
    assert found.rounded == one.copies
    # Gradients larger than a bucket are summed by themselves: a head of 2^23 · 8 weights.
    large = replace(SMALL, vocabulary=2**23, parameters=2**26 + 920)
    untied = replace(large, parameters=2**27 + 920, tied=False)
    both, one = (
        rank_memory(sizes, Work(), FULL, "bf16", division("ddp", 4, 4)).unreduced
        for sizes in (untied, large)
    )
    assert both == 2 * 2**28, "while they are computed, the gradients of head and embedding"
    assert one == 3 * 2**28, "of both, and their sum"


def test_a_reference_stays_too() -> None:
    plain = rank_memory(SMALL, Work(), FULL, "fp32", division("ddp", 2, 2))
    assert replace(plain, reference=4000).total == plain.total + 4000


def test_one_rank_sums_nothing() -> None:
    found = rank_memory(SMALL, Work(), FULL, "fp32", division("fsdp", 1, 1))
    assert (found.gathered, found.rounded) == (0, 0)
    assert found.unreduced == 3 * 4 * 80, "but a matrix used twice has two gradients, and a sum"


def test_recomputed_layers_keep_their_inputs() -> None:
    # 4 bytes · 2 layers · 10 tokens · width 8, and half of what two layers keep.
    work = Work(unique=10, computed=10)
    kept = alone.activations(SMALL, work, "bf16", lora=False)
    found = rank_memory(SMALL, work, FULL, "bf16", division("fsdp", 2, 2), recompute=True)
    assert found.activations == 640 + kept / 2
    plain = rank_memory(SMALL, work, FULL, "bf16", division("fsdp", 2, 2))
    assert plain.activations == kept


def test_what_stays_falls_with_the_ranks_and_what_comes_and_goes_does_not() -> None:
    few, many = (rank_memory(SMALL, Work(), FULL, "fp32", division("fsdp", n, 8)) for n in (8, 64))
    stays = few.stays - few.program
    assert many.stays - many.program == stays / 8
    assert many.comes_and_goes == few.comes_and_goes


def test_an_anatomy_without_a_list_of_matrices_has_its_largest_all_the_same() -> None:
    wide = Anatomy(1000, 600, 10, 8, True, 2, 8, 4, 16, (Matrix("a", 8, 16), Matrix("b", 30, 8)))
    found = rank_memory(wide, Work(), FULL, "bf16", division("fsdp", 2, 2))
    assert found.rounded == 2 * (30 * 8 + 80)
