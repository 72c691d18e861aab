"""What is learned from: files, the split, filters."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from palate.sections.section import Section

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@|[?&]password=", re.IGNORECASE)


class FilterConfig(Section):
    """What is left out of the data, beside broken and repeated rows."""

    provider_errors: Literal["keep", "drop"] = Field(
        "drop",
        description="Examples with an answer that is the message of a failed request, or that a "
        "content filter cut.",
    )
    truncated: Literal["keep", "drop"] = Field(
        "drop",
        description="Examples whose answer to be learned stops at the provider's length limit.",
    )
    refusals: Literal["keep", "drop"] = Field(
        "keep",
        description="Examples whose answer to be learned begins by refusing. Kept by default: a "
        "refusal may be the right answer, and a model unlearns it easily.",
    )
    languages: list[str] | None = Field(
        None,
        min_length=1,
        description="Languages to keep, as ISO 639 codes (`[en, de]`), of prompts and of answers "
        "to be learned; default: all. Short texts are not judged. Needs `palate[data]`.",
    )
    personal: Literal["keep", "report", "drop", "redact"] = Field(
        "keep",
        description="Personal data and secrets: not looked for, counted, left out with their "
        "example, or replaced by `<EMAIL_ADDRESS>` and so on. Names of people are not found. Not "
        "looked for by default: it takes milliseconds a text. Needs `palate[data]`.",
    )
    personal_kinds: list[str] | None = Field(
        None,
        min_length=1,
        description="Kinds of personal data, as `[EMAIL_ADDRESS, SECRET]`; default: all that are "
        "found but addresses of pages (`URL`) and dates (`DATE_TIME`).",
    )
    contamination: list[str] = Field(
        [],
        description="Files with evaluation prompts (any format, or one prompt a line in `.txt`); "
        "examples that hold one are left out.",
    )
    contamination_words: int = Field(
        13,
        ge=5,
        le=50,
        description="Length of the run of words that an example must share with an evaluation "
        "prompt. Of a shorter prompt a whole message must be equal.",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="Examples that say the same as another one in slightly other words, of which "
        "one stays. Kept by default: what customers ask every day may well weigh more.",
    )
    similarity: float = Field(
        0.8,
        ge=0.5,
        le=1,
        description="Share of all three-word runs of two texts that both must have to be near-"
        "duplicates: 0.8 is about one word in 25 changed.",
    )

    @field_validator("languages", mode="before")
    @classmethod
    def _norwegian(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return ["no" if code is False else code for code in value]  # YAML reads `no` as false


class DataConfig(Section):
    """What is learned from, and how it is divided."""

    path: str | list[str] = Field(
        description="File, folder or list of them (JSONL, JSON, Parquet, CSV), or a hub data set "
        "as `hub:OWNER/NAME`."
    )
    format: str = Field(
        "auto", description="Name of the source format; `auto` looks at the first records."
    )
    score: str | None = Field(
        None,
        description="Name of the score that tells better answers from worse, where the logs have "
        "scores of several names; default: all have one.",
    )
    min_gap: float = Field(
        0.0,
        ge=0,
        description="Smallest difference between the best and the worst score of a prompt's "
        "answers that makes a pair; equal scores never do.",
    )
    heldout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the prompts kept out of training, to measure on. The split is by "
        "group, never by row.",
    )
    split_by: str = Field(
        "cluster",
        description="What must not be on both sides of the split: `prompt`, `cluster` for prompts "
        "that are near-duplicates, or `tag:NAME` for a field of the rows' metadata (for instance "
        "the template a prompt was made from).",
    )
    heldout_values: list[str] | None = Field(
        None,
        description="With `split_by: tag:NAME`, exactly these values are held out; default: drawn "
        "by `seed`.",
    )
    max_length: int = Field(
        2048,
        ge=8,
        description="Longest prompt plus completion, in tokens. Longer rows are dropped and "
        "counted, never cut.",
    )
    max_prompt_length: int | None = Field(
        None, ge=1, description="Longest prompt, in tokens; default: only `max_length` counts."
    )
    template: Literal["auto", "chat", "raw"] = Field(
        "auto",
        description="`chat` renders through the model's chat template, `raw` joins prompt and "
        "completion as plain text; `auto` takes the template if the model has one.",
    )
    system: str | None = Field(
        None, description="System prompt put before every conversation that has none."
    )
    filters: FilterConfig = FilterConfig()
    max_pairs: int | None = Field(
        None, ge=1, description="Use at most this many examples, drawn by `seed`; default: all."
    )

    @field_validator("path")
    @classmethod
    def _holds_no_password(cls, value: str | list[str]) -> str | list[str]:
        for place in [value] if isinstance(value, str) else value:
            if _PASSWORD.search(place):
                raise ValueError(
                    "no password belongs into a recipe, which is copied into the run's folder: let "
                    "PGPASSWORD or ~/.pgpass hold it"
                )
        return value
