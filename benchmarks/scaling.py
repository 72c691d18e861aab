"""What one of several ranks holds and sends: predicted, and measured on gloo ranks of this machine.

    python benchmarks/scaling.py                       # every case, each in processes of its own
    python benchmarks/scaling.py --cases full-fsdp     # those whose name begins so

A case trains a random Llama for two steps of two micro-batches, as `palate train` would: the ranks
are joined, the model is divided, and each step ends with AdamW. Memory is a rank's largest
resident set after it was divided (`VmHWM`, which Linux lets one reset), while large tensors are
given back to the system as soon as they are freed (`MALLOC_MMAP_THRESHOLD_`); bytes are those of
the loopback device in a network namespace of the ranks' own (`unshare -n`, which wants root), so
they are what gloo really sends, headers and all. Our C++ kernels are off: a GPU has none of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 640,
    "intermediate_size": 1728,
    "num_hidden_layers": 8,
    "num_attention_heads": 10,
    "num_key_value_heads": 5,
    "tie_word_embeddings": True,
}
LIBRARIES = (
    "palate.losses.registry",
    "palate.model.adapters",
    "palate.model.load",
    "palate.model.rounded",
    "palate.train.optimizer",
    "palate.train.shard",
    "palate.train.step",
    "transformers.models.llama.modeling_llama",
)
# Few tokens: what is looked at here is weights (activations: tests/model/test_memory.py).
ROWS, LENGTH, MICROBATCHES, STEPS = 2, 16, 2, 2
CASES: dict[str, dict[str, Any]] = {
    f"{adapter}-{parallel}-{ranks}-{precision}": {
        "adapter": adapter,
        "parallel": parallel,
        "ranks": ranks,
        "precision": precision,
    }
    for adapter, precision in (("full", "fp32"), ("lora", "bf16"), ("full", "bf16"))
    for parallel, ranks in (("none", 1), ("ddp", 2), ("fsdp", 2), ("fsdp", 4))
    if (adapter, precision) == ("full", "fp32") or parallel == "fsdp"
}


def measure(case: dict[str, Any], out: Path) -> None:
    """What one rank does; it writes what it saw into a file of its own."""
    import torch

    from palate.losses.registry import METHODS
    from palate.model.adapters import trainable
    from palate.model.rounded import round_at_use
    from palate.sections import OptimConfig
    from palate.train.optimizer import clip_gradients, make_adamw
    from palate.train.parallel import join
    from palate.train.step import Packed, compute_step

    torch.set_num_threads(1)
    method = METHODS["sft"]
    with join("fsdp" if case["parallel"] == "fsdp" else "auto") as ranks:
        _warm_up(case, method)
        ranks.device("cpu")
        place = "cpu" if ranks.is_main or not ranks.divided else "meta"
        policy, packed = _policy(case, SHAPE, place), _micro_batches(ranks.rank)
        program = _resident("VmRSS") - sum(
            p.numel() * p.element_size() for p in policy.parameters() if not p.is_meta
        )
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if case["parallel"] == "fsdp":
            round_at_use(policy.model)
        ranks.wrap(policy)
        loading = _resident("VmHWM")
        weights = trainable(policy)
        optimizer = make_adamw(weights, OptimConfig(), 1e-5)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        sent = []
        for _ in range(STEPS):
            ranks.barrier()
            before = _sent()
            compute_step(policy, method, method.params(), Packed(packed, None), {}, ranks=ranks)
            ranks.add_gradients(weights.values())
            clip_gradients(weights.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ranks.barrier()
            sent.append(_sent() - before)
            ranks.barrier()
        seen = {"peak": _resident("VmHWM"), "program": program, "loading": loading, "sent": sent}
        (out / f"rank-{ranks.rank}.json").write_text(json.dumps(seen), encoding="utf-8")


def _warm_up(case: dict[str, Any], method: Any) -> None:
    """A step of a very small model: the pages of the libraries' code count as the program's."""
    from palate.model.adapters import trainable
    from palate.sections import OptimConfig
    from palate.train.optimizer import make_adamw
    from palate.train.step import Packed, compute_step

    policy = _policy(case, {**SHAPE, "num_hidden_layers": 1, "intermediate_size": 64})
    compute_step(policy, method, method.params(), Packed(_micro_batches(0), None), {})
    make_adamw(trainable(policy), OptimConfig(), 1e-5).step()


def _policy(case: dict[str, Any], shape: dict[str, Any], place: str = "cpu") -> Any:
    """A random model of this shape, adapted and in the precision of the case."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from palate.config import AdapterConfig
    from palate.model.adapters import attach
    from palate.model.load import to_compute
    from palate.model.policy import Policy

    torch.manual_seed(0)
    with torch.device(place):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**shape)).eval()
    attach(model, AdapterConfig(kind=case["adapter"]), 0)
    to_compute(model, case["precision"])
    return Policy(model, precision=case["precision"])


def _micro_batches(rank: int) -> Any:
    """Rows of random tokens that share nothing, each supervised but for its first token."""
    import torch

    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch
    from palate.train.step import pack

    generator = torch.Generator().manual_seed(rank)
    count = ROWS * MICROBATCHES
    ids = torch.randint(SHAPE["vocab_size"], (count, LENGTH), generator=generator).tolist()
    mask = [False] + [True] * (LENGTH - 1)
    rows = [Rendered(str(i), 1, (Branch(row, mask),)) for i, row in enumerate(ids)]
    every = list(range(count))
    cuts = [every[first : first + ROWS] for first in range(0, count, ROWS)]
    return pack(rows, every, cuts, share=True, device=torch.device("cpu"))


def _resident(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {name}")


def _sent() -> int:
    """Bytes that the loopback device has sent, of all processes in this network namespace."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[9])
    raise ValueError("there is no loopback device")


def predict(case: dict[str, Any]) -> tuple[Any, float]:
    """A rank's memory, and the bytes that it sends in a step.

    Gloo sums into shares by summing everything for all, which is twice what NCCL's ring sends.
    """
    from transformers import LlamaConfig

    from palate.config import AdapterConfig
    from palate.model.cost import Work, anatomy_of
    from palate.model.sharding import division, rank_memory, units
    from palate.model.traffic import ring, step_traffic

    anatomy, adapter = anatomy_of(LlamaConfig(**SHAPE)), AdapterConfig(kind=case["adapter"])
    tokens = ROWS * LENGTH
    work = Work(unique=tokens, scored=tokens - ROWS, computed=tokens)
    kind = "ddp" if case["parallel"] == "none" else case["parallel"]
    shared = division(kind, case["ranks"], case["ranks"])
    found = rank_memory(anatomy, work, adapter, case["precision"], shared, gpu=False)
    sent = step_traffic(anatomy, adapter, case["precision"], shared, MICROBATCHES)
    root, layer = units(anatomy, adapter, case["precision"])
    twice = ring(root.gradient + anatomy.layers * layer.gradient, case["ranks"], case["ranks"])
    again = MICROBATCHES * twice.total if case["parallel"] == "fsdp" else 0
    return found, sent.total + again


def compare(name: str, port: int) -> str:
    """One row: predicted beside measured, the largest of the ranks.

    The ranks are forks of this process, which has loaded the libraries already.
    """
    case = CASES[name]
    memory, sent = predict(case)
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        running = [
            fork.Process(target=_rank, args=(case, rank, port, Path(folder)))
            for rank in range(case["ranks"])
        ]
        for one in running:
            one.start()
        for one in running:
            one.join()
        if any(one.exitcode for one in running):
            raise SystemExit(f"{name}: a rank failed")
        files = sorted(Path(folder).glob("rank-*.json"))
        seen = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    took = max(one["peak"] - one["program"] for one in seen)
    # Rank 0 of those that divide has its host's copy beside.
    others = seen[1:] if case["parallel"] == "fsdp" else seen
    loaded = max(one["loading"] - one["program"] for one in others)
    own = memory.total - memory.program
    # Of the second step: the first also sends what ranks tell each other once.
    measured = seen[0]["sent"][-1] / case["ranks"]
    cells = [
        name,
        f"{own / MIB:.0f}",
        f"{took / MIB:.0f}",
        f"{own / took - 1:+.0%}",
        f"{memory.loading / MIB:.0f}",
        f"{loaded / MIB:.0f}",
        f"{sent / MIB:.1f}",
        f"{measured / MIB:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _rank(case: dict[str, Any], rank: int, port: int, out: Path) -> None:
    here = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": case["ranks"],
        "LOCAL_WORLD_SIZE": case["ranks"],
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in here.items()})
    measure(case, out)


def apart(words: list[str]) -> None:
    """This program once more, in a network namespace of its own, with what must be set before."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}",
        "GLOO_SOCKET_IFNAME": "lo",
        "PALATE_NATIVE": "off",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": f"{2**18}",
    }
    command = ["unshare", "-n", sys.executable, "-W", "ignore", __file__, "--apart", *words]
    subprocess.run(command, env=environment, check=True)  # noqa: S603


def _loopback_up() -> None:
    """A new network namespace has its loopback device switched off."""
    import fcntl
    import socket
    import struct

    set_flags, up = 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", b"lo", up))


def main() -> None:
    """The cases that were asked for, one after the other."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--cases", nargs="*", default=[""], help="beginnings of names")
    asked.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    told = asked.parse_args()
    if not told.apart:
        return apart(sys.argv[1:])
    _loopback_up()
    for module in LIBRARIES:  # once, before the ranks are forked
        importlib.import_module(module)
    heads = ["case", "predicted MiB", "measured", "error", "to load", "measured"]
    heads += ["predicted MiB sent", "measured"]
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for number, name in enumerate(CASES):
        if any(name.startswith(beginning) for beginning in told.cases):
            sys.stdout.write(compare(name, 29600 + number) + "\n")
            sys.stdout.flush()
    return None


if __name__ == "__main__":
    main()
