"""The part of the card that says how each program loads the export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate.ship.source import Source

_SAY = """\
turns = [{"role": "user", "content": "Hello"}]
ids = tokenizer.apply_chat_template(
    turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
out = model.generate(**ids, max_new_tokens=64)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))"""


def how_to_load(source: Source, record: Mapping[str, Any], files: list[str]) -> str:
    """Commands and snippets for transformers, peft, vLLM, llama.cpp and Ollama."""
    kind, base = record["export"]["to"], record["base"]["name"]
    if kind == "gguf":
        parts = _gguf(files[0])
    elif source.scores:
        parts = [_python(_CLASSIFIER)]
    elif kind == "adapter":
        parts = [_python(_adapter(base)), _shell(_vllm_adapter(source, base))]
    else:
        parts = [_python(_MERGED + _SAY), _shell("vllm serve ."), _OTHER]
    system = _system(source) if not source.scores else ""
    return "## How to load it\n\nIn this folder:\n\n" + "\n\n".join(
        p for p in [*parts, system] if p
    )


_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
"""

_CLASSIFIER = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
text = tokenizer.apply_chat_template(turns, tokenize=False)
ids = tokenizer(text.rstrip("\\n"), add_special_tokens=False, return_tensors="pt")
print(model(**ids).logits)  # the score is read at the end of the answer"""

_OTHER = "For llama.cpp and Ollama: `palate export RUN --to gguf`."


def _adapter(base: str) -> str:
    return f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, ".")
tokenizer = AutoTokenizer.from_pretrained(".")
{_SAY}"""


def _vllm_adapter(source: Source, base: str) -> str:
    name, rank = source.config.name or "tuned", source.config.adapter.rank
    return f"vllm serve {base} --enable-lora --max-lora-rank {max(rank, 8)} --lora-modules {name}=."


def _gguf(file: str) -> list[str]:
    return [
        _shell(f"llama-server -m {file} --jinja\nollama create my-model -f Modelfile"),
        _python(
            f"from llama_cpp import Llama\n\nmodel = Llama({file!r}, n_ctx=0)\n"
            'turns = [{"role": "user", "content": "Hello"}]\n'
            "print(model.create_chat_completion(turns))"
        ),
    ]


def _system(source: Source) -> str:
    if not source.system:
        return ""
    quoted = "\n".join(f"> {line}" for line in source.system.splitlines())
    return f"It was trained under this system prompt:\n\n{quoted}"


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _shell(code: str) -> str:
    return f"```sh\n{code}\n```"
