"""Sampling from a server that speaks vLLM's completions: token ids in, token ids and log-probs out.

Any server will do that takes a prompt as ids and answers `return_token_ids` and `logprobs`
(vLLM since 0.10.2). Weights get there as a LoRA adapter that is loaded anew in its place
(`load_inplace`); which version drew an answer is recorded, so that its age can be.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.generate.draw import Sample, Sampling
from palate.generate.wire import Again, SamplerStopped, ServerSettings, Wire

__all__ = ["Drawn", "SamplerStopped", "ServerSampler", "ServerSettings"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Answers to each prompt, and the version of the weights that the server had for them.

    Version 0 is the base model; the others are those of `ServerSampler.push`.
    """

    answers: list[list[Sample]]
    versions: list[int]

    def staleness(self, version: int) -> list[int]:
        """How many versions older than this one the weights behind each prompt's answers were."""
        return [version - drawn for drawn in self.versions]


class ServerSampler:
    """Draws answers from a server, and gives it new weights.

    `logps` are the server's: of the whole distribution at temperature 1, as vLLM gives them by
    default (`--logprobs-mode raw_logprobs`). Draws are the server's own too: the same seed gives
    other tokens than in this process.
    """

    def __init__(
        self,
        settings: ServerSettings,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._wire = Wire(settings, wait, clock)
        self._lock = threading.Lock()
        self._version = 0
        self._pushed = False

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def push(self, folder: Path, version: int) -> None:
        """Have the server load the LoRA adapter of a folder that it can read too.

        What is asked for from here on is drawn with it. Raises `SamplerStopped`.
        """
        if not (folder / "adapter_config.json").is_file():
            raise SamplerStopped(f"{folder} holds no adapter: there is no adapter_config.json")
        body = {
            "lora_name": self._settings.adapter,
            "lora_path": str(folder.resolve()),
            "load_inplace": True,
        }
        try:
            self._wire.ask("load_lora_adapter", body, lambda raw: raw)
        except SamplerStopped as stopped:
            raise SamplerStopped(
                f"the adapter was not loaded: {stopped}; vLLM wants --enable-lora, a "
                "--max-lora-rank that is high enough, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and "
                "a folder that it sees under the same path"
            ) from stopped
        with self._lock:
            self._version, self._pushed = version, True

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        end_ids: Sequence[int],
        n: int = 1,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Drawn:
        """`n` answers to each prompt, in the prompts' order, a request for each prompt.

        Raises `ValueError` for an empty prompt, and `SamplerStopped` where the server gives no
        answers, or answers without ids or log-probs.
        """
        if any(not prompt for prompt in prompts):
            raise ValueError("a prompt needs at least one token")
        if not prompts or n < 1 or sampling.max_new_tokens < 1:
            return Drawn([[Sample((), False)] * n for _ in prompts], [self._version] * len(prompts))
        found: list[tuple[list[Sample], int]] = [([], 0)] * len(prompts)
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            jobs = {
                pool.submit(self._one, prompt, number, sampling, tuple(end_ids), n): number
                for number, prompt in enumerate(prompts)
            }
            try:
                for job in as_completed(jobs):
                    found[jobs[job]] = job.result()
                    advance(n)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return Drawn([answers for answers, _ in found], [version for _, version in found])

    def _one(
        self,
        prompt: Sequence[int],
        number: int,
        sampling: Sampling,
        end_ids: tuple[int, ...],
        n: int,
    ) -> tuple[list[Sample], int]:
        with self._lock:
            version, pushed = self._version, self._pushed
        model = self._settings.adapter if pushed else self._settings.model
        asked = 1 if sampling.greedy else n  # vLLM refuses to be greedy several times
        body = _request(prompt, number, sampling, end_ids, asked)
        # Keys that older weights made are not to be taken from the server's prefix cache.
        body |= {"model": model, "cache_salt": f"palate-{version}"}

        def read(raw: bytes) -> list[Sample]:
            return read_answers(raw, asked, sampling.max_new_tokens, frozenset(end_ids))

        answers = self._wire.ask("completions", body, read)
        return answers * (n // asked), version


def _request(
    prompt: Sequence[int], number: int, sampling: Sampling, end_ids: tuple[int, ...], n: int
) -> dict[str, Any]:
    """The body but for the model. What vLLM would take from the model's own defaults is set."""
    seed = (sampling.seed,) if isinstance(sampling.seed, int) else sampling.seed
    (drawn,) = np.random.SeedSequence([*seed, number]).generate_state(1)
    return {
        "prompt": list(prompt),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or -1,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "n": n,
        "seed": int(drawn),
        "ignore_eos": True,  # the ends are ours
        "stop_token_ids": list(end_ids),
        "logprobs": 1,
        "return_token_ids": True,
    }


def read_answers(raw: bytes, n: int, most: int, ends: frozenset[int]) -> list[Sample]:
    """The answers in a reply of `completions`, by their index.

    Raises `Again` for a reply that is none, and `SamplerStopped` where the server leaves out
    what it was asked for.
    """
    try:
        choices = json.loads(raw)["choices"]
        by_index = {choice["index"]: choice for choice in choices}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        shown = " ".join(raw[:80].decode("utf-8", "replace").split())
        raise Again(f"a reply that is none: '{shown}'") from error
    if len(choices) != n or set(by_index) != set(range(n)):
        raise Again(f"{len(choices)} answers where {n} were asked for")
    return [_answer(by_index[index], most, ends) for index in range(n)]


def _answer(choice: dict[str, Any], most: int, ends: frozenset[int]) -> Sample:
    ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
    logps = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(ids, list):
        raise SamplerStopped(
            "the server gives no token ids (return_token_ids): vLLM does since version 0.10.2"
        )
    if not isinstance(logps, list):
        raise SamplerStopped("the server gives no log-probs of what it drew (logprobs)")
    if choice.get("finish_reason") not in {"stop", "length"}:
        raise Again(f"half an answer (finish_reason {choice.get('finish_reason')!r})")
    sound = (
        0 < len(ids) <= most
        and len(ids) == len(logps)
        and all(type(token) is int and token >= 0 for token in ids)
        and all(type(value) in (int, float) and math.isfinite(value) for value in logps)
        and not any(token in ends for token in ids[:-1])
    )
    if not sound:
        raise Again("an answer whose tokens and log-probs do not fit together")
    if choice["finish_reason"] == "stop" and ids[-1] not in ends:
        raise SamplerStopped(
            "the server ends answers by other tokens or leaves the last one out: give it no stop "
            "words of its own"
        )
    return Sample(tuple(ids), ids[-1] in ends, tuple(float(value) for value in logps))
