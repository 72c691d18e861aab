"""What the ranks send each other, and how long that takes beside the computing.

All collectives are counted as rings, NCCL's usual way with much data and gloo's: of n ranks each
sends (n − 1)/n of the whole to gather it, as much to sum it into shares, and twice that to sum it
for all. Where the ranks stand on several machines, there are as many rings as a machine has
ranks, and each leaves the machine through another rank's network card: so of what a rank sends,
1/(ranks of a machine) goes to another machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate.config import AdapterConfig
from palate.model.cost import Anatomy, Work, forward_flops, training_flops
from palate.model.policy import Precision
from palate.model.sharding import Division, units


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one rank sends: to others of its machine, and to other machines."""

    inside: float = 0
    between: float = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.inside + other.inside, self.between + other.between)

    def times(self, factor: float) -> Traffic:
        """The same, so many times."""
        return Traffic(self.inside * factor, self.between * factor)

    @property
    def total(self) -> float:
        """Both."""
        return self.inside + self.between


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the ranks run on.

    `inside` and `between`: bytes a second that a rank can send to others of its machine, and to
    other machines; by default the line rates of NVLink 4 (450 GB/s in one direction) and of 400
    Gbit/s for each GPU, which no collective reaches. `peak`: operations a second of matrix
    products (an H100's in bf16), of which training reaches the share `efficiency`, an
    assumption.
    """

    inside: float = 450e9
    between: float = 50e9
    peak: float = 989e12
    efficiency: float = 0.4

    def sending(self, traffic: Traffic) -> float:
        """Seconds; both kinds of links work at the same time."""
        return max(traffic.inside / self.inside, traffic.between / self.between)


def ring(size: float, ranks: int, machine: int) -> Traffic:
    """What each of `ranks` sends to gather `size` bytes, or to sum them into shares."""
    sent = size * (ranks - 1) / ranks
    leaves = sent / machine if ranks > machine else 0.0
    return Traffic(sent - leaves, leaves)


def microbatch_traffic(
    anatomy: Anatomy, adapter: AdapterConfig, precision: Precision, division: Division
) -> Traffic:
    """What a rank sends in each micro-batch; nothing where weights are not divided.

    The root is gathered once, each layer twice; gradients are summed into shares in fp32. Copies
    of the division (hybrid) then sum each share, among the ranks that hold the same one.
    """
    if division.shard == 1:
        return Traffic()
    root, layer = units(anatomy, adapter, precision)
    gradient = root.gradient + anatomy.layers * layer.gradient
    gathered = root.held + 2 * anatomy.layers * layer.held
    found = ring(gathered + gradient, division.shard, division.machine)
    return found + _among_copies(gradient, division)


def step_traffic(
    anatomy: Anatomy,
    adapter: AdapterConfig,
    precision: Precision,
    division: Division,
    microbatches: int,
) -> Traffic:
    """What a rank sends in a step; whole weights sum their gradients once."""
    if division.shard > 1:
        return microbatch_traffic(anatomy, adapter, precision, division).times(microbatches)
    root, layer = units(anatomy, adapter, precision)
    gradient = root.gradient + anatomy.layers * layer.gradient
    return ring(gradient, division.ranks, division.machine).times(2)


def _among_copies(gradient: float, division: Division) -> Traffic:
    """The sum of each share over the copies, of which a machine has one."""
    share = gradient / division.shard
    return ring(share, division.copies, max(1, division.machine // division.shard)).times(2)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a micro-batch: computing, what is sent, and of that what can not be hidden."""

    compute: float
    exchange: float
    exposed: float

    @property
    def hidden(self) -> bool:
        """Whether computing takes longer than sending."""
        return self.exchange <= self.compute

    @property
    def total(self) -> float:
        """The two overlap, but for what is exposed."""
        return max(self.compute, self.exchange - self.exposed) + self.exposed


def pace(
    anatomy: Anatomy,
    work: Work,
    adapter: AdapterConfig,
    precision: Precision,
    division: Division,
    cluster: Cluster,
    *,
    recompute: bool = False,
) -> Pace:
    """One micro-batch of divided weights.

    Exposed is the root unit: it is gathered before anything is computed, and its gradient is
    summed when nothing is left to compute.
    """
    lora = adapter.kind == "lora"
    flops = training_flops(anatomy, work, lora=lora)
    flops += forward_flops(anatomy, work) if recompute else 0
    sent = microbatch_traffic(anatomy, adapter, precision, division)
    root, _ = units(anatomy, adapter, precision)
    alone = ring(root.held + root.gradient, division.shard, division.machine)
    alone += _among_copies(root.gradient, division)
    return Pace(
        compute=flops / (cluster.peak * cluster.efficiency),
        exchange=cluster.sending(sent),
        exposed=cluster.sending(alone),
    )


def tokens_that_hide(
    anatomy: Anatomy,
    adapter: AdapterConfig,
    precision: Precision,
    division: Division,
    cluster: Cluster,
    *,
    scored: float = 1.0,
    recompute: bool = False,
) -> float:
    """Unique tokens of one rank's micro-batch whose computing takes as long as the sending.

    `scored` is the share of them that reach the head. Attention is left out: with it fewer do.
    """
    one = pace(
        anatomy,
        Work(unique=1, scored=scored),
        adapter,
        precision,
        division,
        cluster,
        recompute=recompute,
    )
    return one.exchange / one.compute
