"""A GGUF file with its Modelfile, opened in llama.cpp for the check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from palate.durable import write_text
from palate.ship.built import Built, Seen
from palate.ship.gguf_file import Kind, check_convertible, write_gguf
from palate.ship.llamacpp import WRITTEN, Runtime, opened, quantise, require_llamacpp
from palate.ship.modelfile import Format, modelfile, recognise
from palate.ship.origin import Base
from palate.ship.parity import check_tokens, check_words
from palate.ship.source import Source
from palate.ship.texts import Texts

_ODD = (
    "In 1999 it cost 1,234,567.89 € - or 3½ times 0x1F?",
    "I'm sure they've said we'll go; she'd DON'T you're",
    "naïve café, Größe, señor, Ångström, œuvre",
    "日本語のテキストと中文文本 и русский текст",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया",
    "👋🏽 emoji 👨‍👩‍👧 and ☃️ symbols ≠ ≤ ∑",
    "  two spaces,\ttab,\n\nblank lines,   and   gaps \n end ",
    "def f(x):\n    return x**2  # squared\n\nprint(f(3))",
    "https://example.com/a_b?c=1&d=%20 user@example.com #tag",
    "CamelCaseAndACRONYMs snake_case kebab-case ...!!!???",
)
"""Where tokenizers that were converted by name are known to differ."""


def refuse_gguf(source: Source) -> None:
    """Raise `ValueError` for what cannot become a GGUF file, or be checked as one, here."""
    if source.scores:
        raise ValueError(
            f"{source.folder} is a reward model, which llama.cpp would not score with: use "
            "--to merged"
        )
    check_convertible(source.model_config, source.tokenizer)
    require_llamacpp()


@contextmanager
def build_gguf(
    source: Source, base: Base, kind: str, folder: Path, texts: Texts
) -> Iterator[Built]:
    """Write the file in `kind` and its Modelfile; opened in llama.cpp until the end.

    Raises `palate.ship.parity.NotFaithful` where llama.cpp reads other tokens in a prompt.
    """
    stem = source.config.name or "model"
    path = folder / f"{stem}-{kind}.gguf"
    whole: Kind = kind if kind in WRITTEN else "f16"  # type: ignore[assignment]
    written = folder / f"{stem}-{whole}.gguf"
    write_gguf(
        source.model,
        source.model_config,
        source.tokenizer,
        source.end_ids,
        written,
        kind=whole,
        name=stem,
    )
    if written != path:
        quantise(written, path, kind)
        written.unlink()
    write_text(folder / "Modelfile", _modelfile(source, base, path.name))
    runtime = f"llama.cpp (llama-cpp-python {version('llama-cpp-python')})"
    with opened(path, max(len(text.ids) for text in texts.items)) as llama:
        prompts = check_tokens(llama.tokens, texts, "llama.cpp")
        check_words(llama.words, source.tokenizer, texts)
        seen = Seen(prompts, len(_ODD), _differing(source, llama))
        yield Built(runtime, lambda: llama.score, [path.name], seen)


def _differing(source: Source, llama: Runtime) -> list[str]:
    def ours(text: str) -> list[int]:
        return list(source.tokenizer(text, add_special_tokens=False)["input_ids"])

    return [text for text in _ODD if llama.tokens(text) != ours(text)]


def _modelfile(source: Source, base: Base, file: str) -> str:
    stops = [source.tokenizer.decode([token]) for token in source.end_ids]
    return modelfile(
        file,
        chat_format(source),
        plain=not source.renderer.chat,
        system=source.system,
        stops=stops,
        licence=base.licence_name or base.licence,
    )


def chat_format(source: Source) -> Format | None:
    """The run's chat format as Ollama can repeat it; None where it cannot, or there is none."""
    if not source.renderer.chat:
        return None
    return recognise(
        source.tokenizer,
        bos_added=bool(source.renderer.begin),
        system_joins=source.renderer.system_joins,
    )
