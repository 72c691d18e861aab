"""TRL's side, in TRL's own environment: `datasets` loads the files, TRL's trainers prepare them.

    python -m exporting.theirs FOLDER FOUND.json

Each file of the folder is called TARGET-SHAPE.jsonl. Of every one `datasets.load_dataset` must
give the rows that were written. Those for TRL also go through `is_conversational`,
`maybe_extract_prompt`, and the trainer of their shape, which applies a chat template and tokenizes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import datasets
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.data_utils import is_conversational, maybe_extract_prompt

TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<call>{{ c['function']['name'] }} "
    "{{ c['function']['arguments'] | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and a chat template that shows tools and calls."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|bos|>", "<|start|>", "<|end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


def tiny(folder: str) -> str:
    """A model that trainers can be made with, as a folder; it is never run."""
    place = Path(folder) / "tiny"
    if not place.is_dir():
        shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=272, **shape, **heads)).save_pretrained(place)
    return str(place)


def prepared(shape: str, data: Any, folder: str) -> Any:
    """The data set as the trainer of the shape has tokenized it."""
    plain = {"output_dir": folder, "use_cpu": True, "report_to": [], "max_length": None}
    plain |= {"bf16": False, "per_device_train_batch_size": 2}
    if shape == "pair":
        args = trl.DPOConfig(**plain)
        return trl.DPOTrainer(
            model=tiny(folder), args=args, train_dataset=data, processing_class=tokenizer()
        ).train_dataset
    if shape == "labelled":
        args = trl.KTOConfig(**plain)
        return trl.KTOTrainer(
            model=tiny(folder), args=args, train_dataset=data, processing_class=tokenizer()
        ).train_dataset
    args = trl.SFTConfig(**plain)
    return trl.SFTTrainer(
        model=tiny(folder), args=args, train_dataset=data, processing_class=tokenizer()
    ).train_dataset


def without_nulls(value: Any) -> Any:
    """What a table adds to objects of one column that have different keys, taken away again."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def examine(path: Path, folder: str) -> dict[str, Any]:
    """What came of one file."""
    target, _, shape = path.name.removesuffix(".jsonl").partition("-")
    if target == "llama":  # llama-factory
        target, _, shape = path.name.removesuffix(".jsonl").rpartition("-")
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    data = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=folder)
    rows = list(data)
    found: dict[str, Any] = {"target": target, "shape": shape, "rows": len(rows)}
    found["written"] = len(written)
    found["same"] = [without_nulls(row) for row in rows] == written
    if target != "trl":
        return found
    if shape != "text":
        found["conversational"] = all(map(is_conversational, rows))
        found["prompts kept"] = all(
            maybe_extract_prompt(dict(row))["prompt"] == row["prompt"] for row in rows
        )
    ready = prepared(shape, data, folder)
    found["prepared"] = len(ready)
    found["answers"] = answers_found(shape, written, list(ready))
    return found


def answers_found(shape: str, written: list[dict[str, Any]], ready: list[dict[str, Any]]) -> bool:
    """Whether the tokens of each row hold the words that were written, arguments included."""
    decode = tokenizer().decode
    for row, ids in zip(written, ready, strict=True):
        text = "".join(
            decode(value) for name, value in ids.items() if name.endswith("ids") and value
        )
        wanted = [row["text"]] if shape == "text" else words(row)
        if not all(word in text for word in wanted):
            return False
    return True


def words(row: dict[str, Any]) -> list[str]:
    """Every turn's words, every call's arguments and every tool's name of a row."""
    out: list[str] = []
    for name in ("prompt", "chosen", "rejected", "completion"):
        for turn in row.get(name, ()):
            out.append(turn["content"])
            calls = turn.get("tool_calls", ())
            out += [json.dumps(call["function"]["arguments"]) for call in calls]
    return out + [tool["function"]["name"] for tool in json.loads(row.get("tools", "[]"))]


def main() -> None:
    """Examine each file; the findings go to the second argument."""
    files, out = sorted(Path(sys.argv[1]).glob("*.jsonl")), Path(sys.argv[2])
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        found = [examine(path, folder) for path in files]
    versions = {"trl": trl.__version__, "datasets": datasets.__version__}
    out.write_text(json.dumps({**versions, "found": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
