"""DPO of an 8B-class model on one consumer GPU: time and memory within a given limit.

    python benchmarks/consumer_gpu.py --tokens 2048 --limit 16     # of a 16 GB card
    python benchmarks/consumer_gpu.py --tokens 8192 --limit 24     # of a 24 GB card
    python benchmarks/consumer_gpu.py --shape tiny --tokens 64 --device cpu   # that it works

Random weights in the shape of Llama-3 8B, kept in NF4 (needs `palate[quant]`), a LoRA adapter of
rank 16, bf16. A pair's two branches have --tokens tokens each, the first half of which is their
common prompt. A step is one pair: forward, backward, clipping, optimizer; the reference's pass is
timed apart, as it runs once. The process may take --limit GiB of the GPU's memory, and dies of
what is more. The model is built and quantised block by block, as a run loads it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from functools import partial
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
}


def build(shape: str, device: str) -> Any:
    """A random Llama with its blocks in 4 bits; one block at a time exists in full."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    from palate.model.nf4 import to_nf4

    torch.manual_seed(0)
    sizes = SHAPES[shape]
    config = LlamaConfig(**sizes, max_position_embeddings=2**15, rope_theta=5e5)
    layers, config.num_hidden_layers = config.num_hidden_layers, 0
    config._attn_implementation = "sdpa"
    with torch.device(device):
        model = LlamaForCausalLM(config)
        for number in range(layers):
            model.model.layers.append(LlamaDecoderLayer(config, number))
            to_nf4(model, device)
    config.num_hidden_layers = layers
    return model.requires_grad_(False).eval()


def pairs(count: int, tokens: int, vocabulary: int) -> list[Any]:
    """Pairs of random tokens, whose branches have `tokens` tokens, half of them prompt."""
    import torch

    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch

    draw = torch.Generator().manual_seed(1)
    half = tokens // 2

    def some(number: int) -> list[int]:
        return torch.randint(0, vocabulary, (number,), generator=draw).tolist()

    found = []
    for number in range(count):
        prompt = some(half)
        mask = [False] * half + [True] * (tokens - half)
        branches = tuple(Branch([*prompt, *some(tokens - half)], mask) for _ in range(2))
        found.append(Rendered(str(number), half, branches))
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """What the steps took: seconds, and GiB at the peak."""
    from palate.machine import threads, tune_allocator

    tune_allocator()
    import torch
    from torch.utils.checkpoint import checkpoint

    from palate.config import AdapterConfig, OptimConfig
    from palate.losses.registry import METHODS
    from palate.model.adapters import as_reference, attach, trainable
    from palate.model.load import to_compute
    from palate.model.policy import Policy
    from palate.model.score import score
    from palate.train.optimizer import clip_gradients, make_adamw
    from palate.train.step import Packed, compute_step, pack

    cuda = args.device.startswith("cuda")
    torch.set_num_threads(threads())
    if cuda and args.limit:
        whole = torch.cuda.get_device_properties(args.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.limit * 2**30 / whole))
    model = build(args.shape, args.device)
    adapted = attach(model, AdapterConfig(rank=16), 0)
    to_compute(model, "bf16")
    policy = Policy(model, layout="tree", precision="bf16").eval()
    if args.checkpointing:
        for layer in model.get_decoder().layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    weights = trainable(policy)
    optimizer = make_adamw(weights, OptimConfig(name=args.optimizer), 2e-5)
    examples = pairs(args.warm_up + args.steps, args.tokens, SHAPES[args.shape]["vocab_size"])
    method, times = METHODS["dpo"], []
    began = time.perf_counter()
    with as_reference(adapted):
        reference = score(policy, examples, 2 * args.tokens)
    reference_seconds = time.perf_counter() - began
    first_loss = 0.0
    for number in range(len(examples)):
        began = time.perf_counter()
        batches = pack(examples, [number], [[number]], share=True, device=policy.device)
        optimizer.zero_grad(set_to_none=True)
        result = compute_step(
            policy,
            method,
            method.params(),
            Packed(batches, lambda micro: reference[micro.rows[0]].to(policy.device)),
            {},
        )
        clip_gradients(weights.values(), 1.0)
        optimizer.step()
        first_loss = first_loss or float(result.loss)
        if cuda:
            torch.cuda.synchronize(args.device)
        if number >= args.warm_up:
            times.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_reserved(args.device) if cuda else 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "device": torch.cuda.get_device_name(args.device) if cuda else "cpu",
        "limit_gib": args.limit if cuda else None,
        "tokens": args.tokens,
        "seconds_a_pair": statistics.median(times),
        "reference_seconds_a_pair": reference_seconds / len(examples),
        "gpu_peak_gib": peak / 2**30,
        "host_peak_gib": resident / 2**30,
        "first_loss": first_loss,
        "last_loss": float(result.loss),
    }


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="DPO of a 4-bit model within a memory limit.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--limit", type=float, help="GiB of GPU memory; default: all of it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--optimizer", choices=["adamw", "adamw8bit"], default="adamw")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    return parser


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(options().parse_args())) + "\n")
