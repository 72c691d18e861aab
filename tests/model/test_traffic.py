"""What ranks send, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model.test_cost import SMALL

from palate.config import AdapterConfig
from palate.model.cost import Matrix, Work
from palate.model.sharding import division
from palate.model.traffic import (
    Cluster,
    Traffic,
    microbatch_traffic,
    pace,
    ring,
    step_traffic,
    tokens_that_hide,
)

FULL = AdapterConfig(kind="full")


def test_a_ring() -> None:
    assert ring(80, 4, 4) == Traffic(inside=60, between=0)
    # Two machines of two: half of the links between neighbours leave a machine.
    assert ring(80, 4, 2) == Traffic(inside=30, between=30)
    assert ring(80, 4, 1) == Traffic(inside=0, between=60)
    assert ring(80, 1, 1) == Traffic()


def test_a_micro_batch_of_divided_weights() -> None:
    # Root 320 bytes once, two layers of 1840 twice: 7680. Gradients of 1000 weights: 4000.
    found = microbatch_traffic(SMALL, FULL, "bf16", division("fsdp", 4, 4))
    assert found == Traffic(inside=0.75 * (7680 + 4000))
    assert step_traffic(SMALL, FULL, "bf16", division("fsdp", 4, 4), 3) == found.times(3)


def test_copies_of_a_division_sum_their_shares() -> None:
    # Two machines of two: half of 11,680 inside; a share of 2000 bytes is summed with the other
    # machine's, 2·(1/2)·2000.
    found = microbatch_traffic(SMALL, FULL, "bf16", division("hybrid", 4, 2))
    assert found == Traffic(inside=5840, between=2000)


def test_whole_weights_sum_their_gradients_once_a_step() -> None:
    ranks = division("ddp", 4, 4)
    assert microbatch_traffic(SMALL, FULL, "bf16", ranks) == Traffic()
    assert step_traffic(SMALL, FULL, "bf16", ranks, 9) == Traffic(inside=2 * 0.75 * 4000)


def test_an_adapter_sends_its_own_gradients_only() -> None:
    # Rank 2 on an 8×16 matrix: 48 weights. Two layers hold 2·600 + 4·320 + 4·48 = 2672 bytes and
    # are gathered twice, the root of 480 once.
    small = replace(SMALL, matrices=(Matrix("layers.0.q", 8, 16),))
    lora = AdapterConfig(rank=2)
    found = microbatch_traffic(small, lora, "bf16", division("fsdp", 2, 2))
    assert found.inside == 0.5 * (480 + 2 * 2672 + 4 * 48)
    assert step_traffic(small, lora, "bf16", division("ddp", 2, 2), 9).inside == 4 * 48


def test_the_slower_link_decides() -> None:
    cluster = Cluster(inside=100, between=10)
    assert cluster.sending(Traffic(200, 10)) == 2
    assert cluster.sending(Traffic(200, 50)) == 5


@pytest.mark.parametrize("recompute", [False, True])
def test_sending_beside_computing(recompute: bool) -> None:
    # A token costs 2·600 + 2·80 = 1360 operations forward, three times that in all, four times
    # where layers are computed again. Sent are 8760 bytes, of which the root, gathered and
    # summed, is 3/4·640.
    cluster = Cluster(inside=876, peak=4 * 1360, efficiency=0.5)
    work = Work(unique=1, scored=1)
    ranks = division("fsdp", 4, 4)
    found = pace(SMALL, work, FULL, "bf16", ranks, cluster, recompute=recompute)
    assert found.compute == (2.0 if recompute else 1.5)
    assert found.exchange == 10
    assert found.exposed == 480 / 876
    assert not found.hidden
    assert found.total == 10
    enough = tokens_that_hide(SMALL, FULL, "bf16", ranks, cluster, recompute=recompute)
    assert enough == 10 / found.compute
    ten = Work(unique=10, scored=10)
    found = pace(SMALL, ten, FULL, "bf16", ranks, cluster, recompute=recompute)
    assert found.hidden
    assert found.total == found.compute + found.exposed, "the root is never hidden"
