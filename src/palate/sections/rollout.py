"""How a model samples the answers that it learns from, and who judges them."""

from __future__ import annotations

from pydantic import Field

from palate.sections.judging import JudgeConfig
from palate.sections.section import Section


class SamplerConfig(Section):
    """A server such as vLLM that samples in place of the training process."""

    url: str = Field(
        description="Where the API begins, as `http://127.0.0.1:8000/v1`. The server must see the "
        "run's folder under the same path: adapters are loaded from there."
    )
    model: str = Field(description="Name of the base model, as the server calls it.")
    adapter: str = Field("palate", description="Name under which the adapter is loaded there.")
    key_env: str | None = Field(
        None, description="Environment variable that holds the key; default: none is sent."
    )
    timeout: float = Field(
        600.0, gt=0, le=3600, description="Longest wait for the answers to one prompt, in seconds."
    )
    retries: int = Field(5, ge=0, le=50, description="How often a request is sent again.")
    concurrency: int = Field(16, ge=1, le=256, description="Prompts that are asked at once.")


class RolloutConfig(Section):
    """One rollout: prompts, sampled answers, their rewards, and the updates that follow."""

    judge: JudgeConfig | None = Field(
        None, description="Who says how good an answer is; every method needs one but `spin`."
    )
    prompts: int = Field(8, ge=1, description="Prompts of a rollout.")
    answers: int = Field(
        8, ge=1, description="Answers that are sampled to each prompt: G, or n of best-of-n."
    )
    updates: int | None = Field(
        None,
        ge=1,
        description="Passes over a rollout's answers before the next one is drawn; default: 1, and "
        "4 for `ppo`.",
    )
    fresh_reference: int | None = Field(
        None,
        ge=0,
        description="The reference becomes the policy as it is after every so many rollouts, which "
        "makes whole iterations; 0: never. Default: 0, and 1 for `spin`.",
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest sampled answer, in tokens.")
    temperature: float = Field(
        1.0,
        gt=0,
        description="Sampling temperature. At 1 with `top_k` 0 the samples are the policy's own, "
        "which the gradients take them for.",
    )
    top_k: int = Field(0, ge=0, description="Sample among the k likeliest tokens; 0: all.")
    batch_size: int = Field(
        64,
        ge=1,
        description="Answers that are sampled at once. Bounds memory; never what is drawn.",
    )
    server: SamplerConfig | None = Field(
        None,
        description="A server that samples; the adapter is pushed to it before each rollout. Needs "
        "`adapter.kind: lora`, and a method that samples the policy alone. Default: this process "
        "samples.",
    )
    unfinished_reward: float | None = Field(
        None,
        description="Reward of an answer that reached `max_new_tokens` without ending; default: it "
        "is judged like others.",
    )
    min_gap: float = Field(
        0.0,
        ge=0,
        description="For methods of pairs: by how much the better answer's reward must be ahead. "
        "Equal ones never make a pair.",
    )
    passing: bool = Field(
        False,
        description="For methods of demonstrations: learn from the best answer only where the "
        "judge passes it.",
    )
