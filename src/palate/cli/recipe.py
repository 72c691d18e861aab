"""`palate init`: look at the data, choose a method, write a commented recipe."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.config import (
    AdapterConfig,
    DataConfig,
    EvaluateConfig,
    GateConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    Section,
    TrainConfig,
    load_config,
)
from palate.progress import reporter_for
from palate.records import Arrival, Example, Reject

if TYPE_CHECKING:
    from palate.curate.signals import Judged

# Rows that are looked at; enough to tell what the data is.
LOOKED_AT = 4000
FEW_PAIRS = 50
# Of few pairs: beyond so many thumbs for each, the thumbs themselves say more.
MANY_THUMBS = 10
_TAGS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What the first rows of the data are.

    `shapes` counts examples, `rejected` rows by reason; `pairs` and `demonstrations` are what
    training could make of them, `thumbs` counts the answers with one; `whole` says whether that
    was all of the data. `prompts` counts the distinct ones of pairs, `all_prompts` of all examples,
    because the held-out part is drawn by prompt.
    """

    format: str
    rows: int
    whole: bool
    shapes: dict[str, int]
    rejected: dict[str, int]
    first_reject: str
    pairs: int
    demonstrations: int
    prompts: int
    tags: tuple[str, ...]
    thumbs: dict[bool, int] = field(default_factory=dict)
    all_prompts: int = 0

    def prompts_for(self, method: str) -> int:
        """Distinct prompts among what the method learns from."""
        return self.prompts if method == "dpo" else self.all_prompts


class _Enough(Exception):
    """As many rows as we want to look at have been read."""


def run_init(model: str, data: str, out: str) -> None:
    """Write a recipe to `out`; raises `ValueError` or `FileExistsError` with the cure."""
    target = Path(out)
    if target.exists():
        raise ValueError(f"{target} exists already: name another file with -o, or remove it first")
    _refuse_missing_model(model)
    found = look(data)
    method, why = choose_method(found, data)
    say = reporter_for()
    say.table(f"{data}: {found.format}", ["found", "count", ""], _rows(found))
    say.note(f"method: {method} ({why})")
    text = recipe_text(model, data, method, found, why)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8") as handle:
        handle.write(text)
    load_config(target)
    say.note(
        f"\nwrote {target}\n"
        f"next:   palate doctor {target}   (what it will need)\n"
        f"        palate train {target}"
    )


def look(data: str, limit: int = LOOKED_AT) -> Found:
    """Read at most about `limit` rows; raises `IngestError` when none of them is usable."""
    from palate.curate.demonstrations import make_demonstrations
    from palate.curate.pairing import make_pairs
    from palate.curate.traffic import from_traffic
    from palate.ingest import IngestError

    rejects: list[Reject] = []
    judged, whole = _first_rows(data, limit, rejects)
    if not judged:
        reason, count = Counter(reject.reason for reject in rejects).most_common(1)[0]
        raise IngestError(
            f"none of the first {len(rejects)} rows of {data} can be used: {count} {reason} "
            f"({rejects[0].detail})"
        )
    examples = [*_settled(judged), *from_traffic(judged)]
    pairs = make_pairs(examples, lambda reject: None)
    demonstrations, _ = make_demonstrations(examples, lambda reject: None)
    thumbs = Counter(c.label for e in examples for c in e.completions if c.label is not None)
    usable = {(p.source, p.line) for example in examples for p in example.provenance}
    return Found(
        format=_format_name(data),
        rows=len(usable) + len(rejects),
        whole=whole,
        shapes=dict(Counter(str(example.shape) for example in examples).most_common()),
        rejected=dict(Counter(reject.reason for reject in rejects).most_common()),
        first_reject=f"{rejects[0].source}:{rejects[0].line}: {rejects[0].detail}"
        if rejects
        else "",
        pairs=len(pairs),
        demonstrations=len(demonstrations),
        prompts=len({example.prompt_key for example in pairs}),
        all_prompts=len({example.prompt_key for example in examples}),
        tags=tuple(sorted({tag for example in examples for tag in example.tags})),
        thumbs=dict(thumbs),
    )


def _first_rows(data: str, limit: int, rejects: list[Reject]) -> tuple[list[Judged], bool]:
    """The first rows with what was said about them, and whether they are all that there is."""
    from palate.curate.signals import join
    from palate.ingest import read_arrivals
    from palate.store.database import is_store
    from palate.store.judged import read_judged

    if is_store(data):
        found = list(islice(read_judged(DataConfig(path=data), rejects.append), limit + 1))
        return found[:limit], len(found) <= limit
    arrivals: list[Arrival] = []

    def on_reject(reject: Reject) -> None:
        rejects.append(reject)
        if len(rejects) + len(arrivals) > limit:
            raise _Enough

    whole = True
    try:
        for arrival in read_arrivals(data, on_reject=on_reject):
            if len(arrivals) + len(rejects) >= limit:
                raise _Enough
            arrivals.append(arrival)
    except _Enough:
        whole = False
    return join(arrivals, rejects.append), whole


def _settled(judged: Sequence[Judged]) -> list[Example]:
    """The examples; scores of several names say nothing here, since nobody has chosen one yet."""
    from palate.curate.signals import settle
    from palate.ingest import IngestError

    try:
        return settle(judged, lambda reject: None)
    except IngestError:
        kept = [
            replace(one, signals=tuple(s for s in one.signals if s.kind != "score"))
            for one in judged
        ]
        return settle(kept, lambda reject: None)


def choose_method(found: Found, data: str) -> tuple[str, str]:
    """(method, why in words); raises `ValueError` when no method fits."""
    some = "" if found.whole else f" in the first {found.rows} rows"
    thumbs = sum(found.thumbs.values()) if len(found.thumbs) == 2 else 0
    if found.pairs and (found.pairs >= FEW_PAIRS or thumbs <= MANY_THUMBS * found.pairs):
        why = f"{found.pairs} pairs{some}"
        if found.pairs < FEW_PAIRS:
            why += ", which is few: expect little"
            if found.demonstrations > 10 * found.pairs:
                why += f"; method=sft would imitate {found.demonstrations} answers instead"
        return "dpo", why
    if thumbs:
        few = f"pairs: only {found.pairs}" if found.pairs else "no pairs"
        ups, downs = found.thumbs[True], found.thumbs[False]
        return "kto", f"{few}, but {ups} thumbs up and {downs} down{some}"
    if found.demonstrations:
        return "sft", f"no pairs, but {found.demonstrations} answers to imitate{some}"
    if "text" in found.shapes:
        return "pretrain", f"{found.shapes['text']} texts{some}"
    raise ValueError(
        f"no method fits {data}: {_counts(found.shapes)}, but no prompt has both a better and a "
        "worse answer (needed for dpo) and no answer is known to be good (needed for sft): add "
        "thumbs, chosen and rejected answers, or demonstrations"
    )


def _format_name(data: str) -> str:
    """The format of each file, as `read_examples` takes it; several are joined by commas."""
    from palate.ingest import containers, hub, registry
    from palate.store.database import is_store

    if is_store(data):
        return "auto"
    if data.startswith(hub.PREFIX):
        files = [local for _, local in hub.fetch(data)]
    else:
        files = containers.files(Path(data).expanduser())
    names: list[str] = []
    for file in files[:16]:
        head = [raw.value for raw in islice(containers.rows(file), 32) if raw.value is not None]
        known = registry.sniff(head)
        if known is not None and known.name not in names:
            names.append(known.name)
    return ", ".join(names) or "auto"


def _refuse_missing_model(model: str) -> None:
    """A path that leads nowhere is told now; names and hub ids are looked up by training."""
    place = Path(model).expanduser()
    looks_like_path = model.startswith((".", "~", "/")) or model.lower().endswith(".gguf")
    if looks_like_path and not place.exists():
        raise ValueError(
            f"there is no model at {model}: give a folder with safetensors, a hub id, a .gguf "
            "file, or smollm2-135m-instruct"
        )


def _rows(found: Found) -> list[list[str]]:
    more = "" if found.whole else "the first ones; there are more"
    rows = [["rows", str(found.rows), more]]
    rows += [[shape, str(count), _SHAPES[shape]] for shape, count in found.shapes.items()]
    for index, (reason, count) in enumerate(found.rejected.items()):
        rows.append([f"dropped: {reason}", str(count), found.first_reject if index == 0 else ""])
    rows.append(["pairs for dpo", str(found.pairs), ""])
    rows.append(["answers for sft", str(found.demonstrations), ""])
    return rows


_SHAPES = {
    "pair": "with a chosen and a rejected answer",
    "labelled": "with thumbs",
    "demonstration": "with one answer and no verdict",
    "group": "with several answers and no verdict",
    "text": "of plain text",
}


def _counts(shapes: dict[str, int]) -> str:
    return ", ".join(f"{count} {_SHAPES[shape]}" for shape, count in shapes.items())


def recipe_text(model: str, data: str, method: str, found: Found, why: str) -> str:
    """The recipe: what people change, each with its field's own description above it.

    What was found in the data, and why the method was chosen, is at its head; the site's form
    shows that too (`palate.ui.runs.bases`).
    """
    about = f"{_counts(found.shapes)}; format {found.format}"
    if not found.whole:
        about += f"; the first {found.rows} rows"
    settings = {
        "name": run_name(data),
        "seed": 0,
        "model": {"path": model},
        "data": {
            "path": data,
            "format": found.format if "," not in found.format else "auto",
            "heldout": 0.1 if found.prompts_for(method) > 1 else 0,
            "split_by": "cluster",
            "max_length": 2048,
        },
        "method": {"name": method, **_PARAMETERS.get(method, {})},
        "adapter": {"kind": "lora", "rank": 16},
        "optim": {"lr": None},
        "train": {
            "batch_size": 8,
            "epochs": 1,
            "tokens_per_microbatch": "auto",
            "eval_every": 10,
        },
        "evaluate": {"samples": 16, "rule": None, "max_new_tokens": 128, "answers": 128},
        "gate": {"win_rate": 0.5, "length_change": 0.2},
    }
    lines = [
        *_comment("A recipe for `palate train`, written by `palate init`."),
        *_comment(f"The data: {about}. The method: {method} ({why})."),
        *_comment(
            "Any setting can also be given on the command line, as in train.epochs=2. What is "
            "not listed keeps its default: docs/config.md lists everything."
        ),
    ]
    for key, value in settings.items():
        lines.append("")
        if key == "method":
            lines += _method(value, found)  # type: ignore[arg-type]
        elif isinstance(value, dict):
            lines += _section(key, value, found)
        else:
            lines += [*_comment(_description(RunConfig, key)), f"{key}: {_scalar(value)}"]
    return "\n".join(lines) + "\n"


# Losses live in a room that needs torch; a test holds these to the losses' own defaults.
_PARAMETERS: dict[str, dict[str, Any]] = {"dpo": {"beta": 0.1}, "kto": {"beta": 0.1}}
_SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "adapter": AdapterConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "gate": GateConfig,
}


def _section(name: str, values: dict[str, Any], found: Found) -> list[str]:
    owner = _SECTIONS[name]
    lines = [*_comment((owner.__doc__ or "").strip()), f"{name}:"]
    for key, value in values.items():
        lines += _comment(_description(owner, key), indent=2)
        if key == "split_by" and found.tags:
            lines += _comment(f"Tags in this data: {_tags(found.tags)}.", indent=2)
        if key == "heldout" and value == 0:
            lines += _comment("0 here, because the data has one prompt only.", indent=2)
        lines.append(f"  {key}: {_scalar(value)}")
    return lines


def _method(values: dict[str, Any], found: Found) -> list[str]:
    other = f"{found.demonstrations} answers could be imitated with `name: sft`."
    about = "What is learned from the data; docs/methods.md lists the methods and parameters."
    lines = [*_comment(about)]
    if values["name"] == "dpo":
        lines += _comment(other)
    lines += ["method:", f"  name: {values['name']}"]
    if "beta" in values:
        lines += _comment("Strength of the tie to the model before training.", indent=2)
        lines.append(f"  beta: {values['beta']}")
    return lines


def _tags(tags: Sequence[str]) -> str:
    shown = ", ".join(tags[:_TAGS_SHOWN])
    return f"{shown}, …" if len(tags) > _TAGS_SHOWN else shown


def run_name(data: str) -> str:
    """A run's name from the data's: letters, digits, dots, dashes."""
    stem = Path(data.rstrip("/")).name.split(".")[0] or "run"
    return re.sub(r"[^\w-]+", "-", stem.removeprefix("hub:")).strip("-") or "run"


def _description(owner: type[Section], key: str) -> str:
    return owner.model_fields[key].description or ""


def _comment(text: str, indent: int = 0) -> list[str]:
    """The text as comment lines; control characters in names from the data are left out."""
    plain = " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())
    margin = " " * indent + "# "
    return textwrap.wrap(
        plain,
        96,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _scalar(value: object) -> str:
    """One YAML value on one line."""
    import yaml

    text = yaml.safe_dump(value, allow_unicode=True, width=2**20, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...").rstrip()
