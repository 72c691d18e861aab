"""Which attention kernel computes the tree on this device: checked, timed, chosen once.

`tiled` is our own form (`palate.model.tiles`), which runs everywhere. On CUDA two more are tried,
the variable-length flash kernel and `flex_attention`. Each must agree with attention written out
in float64 over one dense mask, forward and backward, as closely as torch's plain attention under
that mask does in the same precision, and must not let a branch see its sibling at all. Among
those that pass, the fastest on a forest of a usual size is taken. The choice is written to the
run's plan and not made again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from palate.model.attention import tree_attention
from palate.model.flex import flex_tree_attention
from palate.model.varlen import supports_varlen, varlen_attention
from palate.tokens.tree import Branch, Forest, build_forest

# (query, key, value, forest, scale, window, softcap, sinks) to [1, T, heads, d], or None where the
# kernel cannot do it and the tiled form must
Kernel = Callable[..., Tensor | None]

TILED = "tiled"
# Root-mean-square error that a kernel may have: in units of plain attention's, and on top of it
# (relative; the last digits of fp32).
_TOLERANCE, _LAST_DIGITS = 2.0, 1e-6
_WARM_UP, _TIMED = 2, 5


@dataclass(frozen=True, slots=True)
class Heads:
    """What attention looks like in a model: the heads, and what is done to the scores.

    `windows` holds the sliding window of each kind of layer, None for one that sees everything.
    """

    queries: int
    keys: int
    width: int
    windows: tuple[int | None, ...] = (None,)
    softcap: float | None = None
    sinks: bool = False


def heads_of(config: Any) -> Heads:
    """Read them from a transformers text config."""
    heads = config.num_attention_heads
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    windows = [None] if not kinds or "full_attention" in kinds else []
    if window is not None and (not kinds or "sliding_attention" in kinds):
        windows.append(window)
    return Heads(
        queries=heads,
        keys=getattr(config, "num_key_value_heads", None) or heads,
        width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        windows=tuple(windows) or (None,),
        softcap=getattr(config, "attn_logit_softcapping", None),
        sinks=getattr(config, "model_type", "") == "gpt_oss",
    )


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor | None:
    if not supports_varlen(query, special=softcap is not None or sinks is not None):
        return None
    return varlen_attention(query, key, value, forest, scale, window)


KERNELS: dict[str, Kernel] = {"varlen": _varlen, "flex": flex_tree_attention}


def kernel_named(name: str) -> Kernel | None:
    """The kernel of a plan; None stands for the tiled form."""
    return None if name == TILED else KERNELS[name]


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernel to use and in words why; `warning` when a faster one was refused."""

    name: str
    reason: str
    warning: str = ""


def choose(
    heads: Heads,
    device: torch.device,
    dtype: torch.dtype,
    candidates: Sequence[str] | None = None,
) -> Choice:
    """Check and time the kernels for these heads; `candidates` None: those that the device has."""
    if candidates is None:
        candidates = tuple(KERNELS) if device.type == "cuda" else ()
    if not candidates:
        return Choice(TILED, f"the only one on {device.type}")
    refused: dict[str, str] = {}
    for name in candidates:
        wrong = check(KERNELS[name], heads, device, dtype)
        if wrong is not None:
            refused[name] = wrong
    good = [TILED, *(name for name in candidates if name not in refused)]
    seconds = {name: _time(kernel_named(name), heads, device, dtype) for name in good}
    best = min(seconds, key=lambda name: seconds[name])
    times = ", ".join(f"{name} {1e3 * taken:.2f} ms" for name, taken in seconds.items())
    said = "; ".join(f"{name}: {why}" for name, why in refused.items())
    slow = f"tree attention falls back to {TILED} ({said})" if len(good) == 1 else ""
    return Choice(best, f"{times}" + (f"; refused: {said}" if said else ""), slow)


def check(kernel: Kernel, heads: Heads, device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with a kernel for these heads on this device, or None.

    A small forest with every kind of segment: queries fewer than keys, deep and shallow, and
    windows that end inside the segment, in its parent and in the root.
    """
    forest = _small_forest().to(device)
    windows = {w if w is None or w < 40 else 40 for w in heads.windows}
    try:
        for window in sorted(windows, key=str):
            wrong = _compare(kernel, heads, forest, window, dtype)
            if wrong is not None:
                return wrong
    except Exception as error:  # noqa: BLE001 whatever a compiler or a driver raises: not this one
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return None


def _compare(
    kernel: Kernel, heads: Heads, forest: Forest, window: int | None, dtype: torch.dtype
) -> str | None:
    leaves = _inputs(heads, forest, dtype)
    mine = _call(kernel, leaves, heads, forest, window)
    if mine is None:
        return "it does not take these heads"
    plain = _call(_plain, leaves, heads, forest, window)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    exact = _call(_dense, wide, heads, forest, window)
    assert plain is not None
    assert exact is not None
    weight = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    weight = weight.to(exact)
    results = []
    for out, at in ((mine, leaves), (plain, leaves), (exact, wide)):
        grads = torch.autograd.grad(out, at, weight.to(out.dtype), retain_graph=out is mine)
        results.append([out.detach().double(), *(g.double() for g in grads)])
    names = ["output", "query gradient", "key gradient", "value gradient", "sink gradient"]
    for name, a, b, c in zip(names, *results, strict=False):
        error, usual = _rms(a - c) / _rms(c), _rms(b - c) / _rms(c)
        if not error <= _TOLERANCE * usual + _LAST_DIGITS:
            return f"{name} off by {error:.1e}, plain attention by {usual:.1e}"
    last = forest.segments[-1]  # its sibling's keys must have no influence at all
    one = torch.zeros_like(mine)
    one[:, last.start : last.end] = 1
    (leak,) = torch.autograd.grad(mine, leaves[1], one)
    off_path = torch.ones(forest.unique_tokens, dtype=torch.bool, device=leak.device)
    for begin, end in (*last.context, (last.start, last.end)):
        off_path[begin:end] = False
    return "a branch sees its sibling" if bool(leak[:, :, off_path].any()) else None


def _call(
    kernel: Kernel, leaves: Sequence[Tensor], heads: Heads, forest: Forest, window: int | None
) -> Tensor | None:
    query, key, value, *rest = leaves
    sinks = rest[0] if rest else None
    return kernel(query, key, value, forest, heads.width**-0.5, window, heads.softcap, sinks)


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _inputs(heads: Heads, forest: Forest, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys, values, and sinks where the heads have them; all want a gradient."""
    draw = torch.Generator().manual_seed(0)
    device, size = forest.ids_T.device, forest.unique_tokens
    shapes = [(1, n, size, heads.width) for n in (heads.queries, heads.keys, heads.keys)]
    drawn = [torch.randn(shape, generator=draw).to(device, dtype) for shape in shapes]
    if heads.sinks:
        drawn.append(torch.randn(heads.queries, generator=draw).to(device))
    return [t.requires_grad_() for t in drawn]


def _tiled(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    out: Tensor = tree_attention(
        torch.nn.Module(),
        query,
        key,
        value,
        None,
        scaling=scale,
        forest=forest,
        sliding_window=window,
        softcap=softcap,
        s_aux=sinks,
    )[0]
    return out


def _dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, with one mask over the packed row."""
    allowed = _mask(forest, window)
    group = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(group, dim=1) for t in (key, value))
    scores = query @ key.transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~allowed, float("-inf"))
    if sinks is not None:
        column = sinks.view(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1)
        weights = torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    return (weights @ value).transpose(1, 2)


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """What a model does without us: torch's attention under the mask, in the inputs' precision."""
    if softcap is not None or sinks is not None:
        return _dense(query, key, value, forest, scale, window, softcap, sinks)
    group = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(group, dim=1) for t in (key, value))
    allowed = _mask(forest, window)
    out = functional.scaled_dot_product_attention(query, key, value, allowed, scale=scale)
    return out.transpose(1, 2)


def _mask(forest: Forest, window: int | None) -> Tensor:
    """True where a packed row sees another, [T, T]."""
    allowed = torch.zeros(forest.unique_tokens, forest.unique_tokens, dtype=torch.bool)
    for segment in forest.segments:
        path = (*segment.context, (segment.start, segment.end))
        rows = [row for begin, end in path for row in range(begin, end)]
        for position in range(segment.position, len(rows)):
            first = 0 if window is None else max(0, position - window + 1)
            allowed[rows[position], rows[first : position + 1]] = True
    return allowed.to(forest.ids_T.device)


def _time(kernel: Kernel | None, heads: Heads, device: torch.device, dtype: torch.dtype) -> float:
    """Median seconds of a forward and backward pass over a usual forest."""
    forest = _usual_forest().to(device)
    leaves = _inputs(heads, forest, dtype)
    taken = []
    for turn in range(_WARM_UP + _TIMED):
        _wait(device)
        began = time.perf_counter()
        for window in heads.windows:
            out = _call(kernel or _tiled, leaves, heads, forest, window)
            if out is None:
                return float("inf")
            torch.autograd.grad(out.sum(), leaves)
        _wait(device)
        if turn >= _WARM_UP:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forest(shared: int, prompts: int, prompt: int, answers: Sequence[int]) -> Forest:
    branches = []
    for number in range(prompts):
        above = [0] * shared + [1 + number] * prompt
        for kind, length in enumerate(answers):
            ids = [*above, *[1 + prompts + kind] * length]
            branches.append(Branch(ids, [False] * len(above) + [True] * length))
    return build_forest(branches)


def _small_forest() -> Forest:
    """A beginning of 37 tokens, three prompts of 29 below it, answers of 61, 9 and 17."""
    return _forest(37, 3, 29, (61, 9, 17))


def _usual_forest() -> Forest:
    """Eight pairs under one system prompt: 512 tokens, prompts of 96, answers of 160 and 200."""
    return _forest(512, 8, 96, (160, 200))
