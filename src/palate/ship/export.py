"""`palate export`: weights, tokenizer, card and record in one folder, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from palate.durable import MANIFEST, commit_folder, listed, write_json, write_text
from palate.progress import Quiet, Reporter
from palate.ship.built import Built
from palate.ship.card import model_card
from palate.ship.gguf_export import build_gguf, refuse_gguf
from palate.ship.llamacpp import QUANTISED, WRITTEN
from palate.ship.origin import Base, base_of
from palate.ship.parity import LIMITS, NotFaithful, Parity, measure, trainers_words
from palate.ship.record import ship_record
from palate.ship.scorers import adapter_scorer, trainer_scorer, transformers_scorer
from palate.ship.source import Source, open_source
from palate.ship.texts import Texts, held_texts
from palate.ship.weights import Dtype, write_adapter, write_merged

Target = Literal["adapter", "merged", "gguf"]
CARD, RECORD = "README.md", "ship.json"
_KIND = "export"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export and how strictly to look.

    `dtype` is of merged weights, `quantize` of a GGUF file. `max_kl` replaces the limit of the
    format, in nats a token; `tokens` is about how many held-out tokens are measured.
    """

    to: Target
    dtype: Dtype = "fp32"
    quantize: str = "f16"
    max_kl: float | None = None
    tokens: int = 2048

    def __post_init__(self) -> None:
        for name, given, known in (
            ("--to", self.to, get_args(Target)),
            ("--dtype", self.dtype, get_args(Dtype)),
            ("--quantize", self.quantize, (*WRITTEN, *QUANTISED)),
        ):
            if given not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, and not {given}")

    @property
    def label(self) -> str:
        """The format's name: its key among the limits."""
        kinds = {"adapter": "adapter", "merged": self.dtype, "gguf": self.quantize}
        return kinds[self.to]

    @property
    def folder(self) -> str:
        """The export's folder in the run's own `export/`."""
        return self.to if self.to == "adapter" else f"{self.to}-{self.label}"

    @property
    def limit(self) -> float:
        """Most nats a token on average."""
        return LIMITS[self.label] if self.max_kl is None else self.max_kl


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: its folder and what ship.json says."""

    folder: Path
    record: dict[str, Any]
    parity: Parity


def export(
    run: Path, wish: Wish, out: Path | None = None, *, reporter: Reporter | None = None
) -> Exported:
    """Export a finished run and measure the result through what will serve it.

    Everything is made in a hidden folder beside the target and renamed into place at the end.
    Raises `ValueError` for what the user can mend and `NotFaithful` where the export says
    something else than the trainer's model; nothing of it is left then.
    """
    say = reporter or Quiet()
    source = open_source(run)
    _refuse(source, wish)
    # Resolved, because a link or `.` cannot be renamed over.
    target = (out or run / "export" / wish.folder).resolve()
    _refuse_target(target)
    base, texts = base_of(source), held_texts(source, wish.tokens)
    made: list[Exported] = []
    say.note(f"the trainer's model on {texts.tokens} {texts.unit}s, {texts.origin} …")
    scorer, trainer = trainer_scorer(source, merged=wish.to == "adapter")
    with trainers_words(scorer, texts) as words:
        del scorer

        def fill(folder: Path) -> None:
            say.note(f"writing {wish.folder} …")
            what = {"to": wish.to, "format": wish.label, "compared_with": trainer}
            with _written(source, base, wish, folder, texts) as built:
                say.note(f"the export, through {built.runtime} …")
                parity = measure(
                    words, built.scorer(), texts, runtime=built.runtime, limit=wish.limit
                )
            _gate(parity, target)
            record = ship_record(source, base, what, parity, built.seen, folder)
            write_text(folder / CARD, model_card(source, record, built.files))
            write_json(folder / RECORD, record)
            _refuse_target(target)  # once more: it took minutes, and people add files
            made.append(Exported(target, record, parity))

        commit_folder(target, fill, {"kind": _KIND})
    return made[0]


@contextmanager
def _written(source: Source, base: Base, wish: Wish, folder: Path, texts: Texts) -> Iterator[Built]:
    """Fill the folder, and open it as its users will."""
    if wish.to == "gguf":
        with build_gguf(source, base, wish.quantize, folder, texts) as built:
            yield built
        return
    if wish.to == "adapter":
        write_adapter(source, base, folder)
        yield Built("peft on the base, fp32", lambda: adapter_scorer(source, folder))
        return
    write_merged(source, folder, wish.dtype)
    runtime = f"transformers, {wish.dtype}"
    yield Built(runtime, lambda: transformers_scorer(source, folder))


def _gate(parity: Parity, target: Path) -> None:
    if not parity.passed:
        raise NotFaithful(
            f"{target} was not written, it is not the trained model: {parity.sentence()}"
        )


def _refuse(source: Source, wish: Wish) -> None:
    """What cannot be exported so, before any work."""
    if wish.to == "gguf":
        refuse_gguf(source)
    if wish.to == "adapter" and source.scores:
        raise ValueError(
            f"{source.folder} is a reward model, whose head is no part of an adapter: "
            "use --to merged"
        )
    if wish.to == "adapter" and source.adapter is None:
        raise ValueError(
            f"{source.folder} trained every weight and has no adapter: use --to merged"
        )


def _refuse_target(target: Path) -> None:
    """Only an earlier export is replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target} is a file: name another folder with --out")
    found = listed(target)
    if (found is None or found.get("kind") != _KIND) and any(target.iterdir()):
        raise ValueError(f"{target} holds something else than an export: name another with --out")
    if strangers := _strangers(target, found):
        raise ValueError(
            f"{target} is an earlier export with something else in it ({', '.join(strangers[:3])}"
            f"{', …' if len(strangers) > 3 else ''}), which a new one would delete: move it away, "
            "or name another folder with --out"
        )


def _strangers(target: Path, manifest: dict[str, Any] | None) -> list[str]:
    """What lies in the folder and is neither in its manifest nor a folder of something there."""
    ours = {Path(MANIFEST), *(Path(name) for name in (manifest or {}).get("files", ()))}
    ours |= {parent for path in ours for parent in path.parents}
    here = sorted(path.relative_to(target) for path in target.rglob("*"))
    return [str(path) for path in here if path not in ours]
