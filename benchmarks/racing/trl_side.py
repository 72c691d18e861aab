"""TRL's side of the race: one process in TRL's own environment.

    python -m racing.trl_side ENTRY.json SAMPLE.json

TRL's DPOTrainer trains on the course's ids. Three things are overridden and nothing else:
the preparation of the data (it is tokenized already), and two functions that call TRL's own
and write down when, how long and with what result.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .course import Course, digest, read_course
from .sample import Entry, Sample, limit_memory, read_entry, resident_peak, write

MACHINE = Path(__file__).resolve().parents[2] / "src" / "palate" / "machine.py"


def main() -> None:
    """Train as the entry says and write what was measured."""
    entry = read_entry(Path(sys.argv[1]))
    if entry.tuned:
        tune()
    limit_memory(entry.limit)
    with tempfile.TemporaryDirectory() as folder:
        write(train(entry, read_course(Path(entry.course)), folder), Path(sys.argv[2]))


def tune() -> None:
    """Palate's own settings of the allocator and of OpenMP's threads, before torch is there."""
    found = importlib.util.spec_from_file_location("machine", MACHINE)
    assert found is not None
    assert found.loader is not None
    machine = importlib.util.module_from_spec(found)
    sys.modules["machine"] = machine
    found.loader.exec_module(machine)
    machine.calm_threads()
    machine.tune_allocator()


def ordered(entry: Entry, course: Course) -> list[list[int]]:
    """The pairs of each step; tuned: by length, so that micro-batches have little padding."""
    steps = [list(step[: entry.pairs]) for step in course.steps[: entry.steps]]
    if entry.tuned:
        steps = [sorted(step, key=lambda row: course.pairs[row].longest) for step in steps]
    return steps


def train(entry: Entry, course: Course, folder: str) -> Sample:
    """Run the trainer over the course's steps."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    steps = ordered(entry, course)
    rows = [course.pairs[row] for step in steps for row in step]
    data = Dataset.from_dict(
        {
            "prompt_ids": [list(p.prompt) for p in rows],
            "chosen_ids": [list(p.chosen) for p in rows],
            "rejected_ids": [list(p.rejected) for p in rows],
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(entry.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    sample = Sample(digest="")
    trainer = make_trainer(entry, steps, data, tokenizer, sample, folder)
    got = trainer.train_dataset
    back = {row: place for place, row in enumerate(row for step in steps for row in step)}
    sample.digest = digest(
        (got[back[row]]["prompt_ids"], got[back[row]]["chosen_ids"], got[back[row]]["rejected_ids"])
        for row in sorted(back)
    )
    if entry.gate is not None:
        perturb(trainer.model, entry)
    trainer.train()
    cuda = torch.cuda.is_available()
    sample.peak_bytes = torch.cuda.max_memory_allocated() if cuda else resident_peak()
    sample.facts = {
        "trl": trl.__version__,
        "torch": torch.__version__,
        "device": trainer.args.device.type,
        "threads": torch.get_num_threads(),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT"),
        "batch": entry.batch,
        "checkpointing": entry.checkpointing,
        "precompute": entry.precompute,
    }
    return sample


def perturb(model: Any, entry: Entry) -> None:
    """The gate's start: an adapter from a file, or every matrix of the body scaled."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        if entry.adapter == "full":
            scale_body(model)
            return
        weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        wanted = load_file(str(entry.gate))
        assert set(weights) == set(wanted), "both sides adapt the same layers"
        for name, parameter in weights.items():
            parameter.copy_(wanted[name])


def scale_body(model: Any) -> None:
    """Multiply every matrix that is no embedding by 1.01, in place."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    for parameter in model.parameters():
        if parameter.ndim == 2 and parameter is not embedding and parameter is not head:
            parameter.mul_(1.01)


class Recorder:
    """Writes into a sample what the trainer does, micro-batch by micro-batch."""

    def __init__(self, sample: Sample, micros: int) -> None:
        self.sample, self.micros = sample, micros
        self.batches = 0
        self.loss = 0.0
        self.last = self.backward = 0.0

    def batch(self, computed: int, path: int) -> None:
        """A micro-batch was put together: tokens with padding and without."""
        if self.batches % self.micros == 0:
            self.sample.computed.append(0)
            self.sample.path.append(0)
        self.batches += 1
        self.sample.computed[-1] += computed
        self.sample.path[-1] += path

    def reference(self, seconds: float, pairs: int) -> None:
        """The reference is done; its batches are not the steps'."""
        self.sample.reference_seconds, self.sample.reference_pairs = seconds, pairs
        self.sample.computed.clear()
        self.sample.path.clear()
        self.batches = 0

    def step(self, at: float) -> None:
        """A step ended at this time."""
        self.sample.seconds.append(at - self.last)
        self.sample.optimizer_seconds.append(at - self.backward)
        self.sample.losses.append(self.loss / self.micros)
        self.last, self.loss = at, 0.0


def now() -> float:
    """A clock that waits for the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_trainer(
    entry: Entry, steps: list[list[int]], data: Any, tokenizer: Any, sample: Sample, folder: str
) -> Any:
    """DPOTrainer with TRL's defaults except for what must be equal or is being tuned."""
    import torch
    from peft import LoraConfig
    from trl import DPOConfig

    pairs = len(steps[0])
    batch = min(entry.batch, pairs)
    assert pairs % batch == 0, "a step is cut into equal micro-batches"
    recorder = Recorder(sample, pairs // batch)
    config = DPOConfig(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=recorder.micros,
        max_steps=len(steps),
        train_sampling_strategy="sequential",
        learning_rate=entry.lr,
        adam_epsilon=entry.eps,
        lr_scheduler_type="constant",
        max_length=None,
        beta=0.1,
        bf16=entry.precision != "fp32",
        gradient_checkpointing=entry.checkpointing,
        precompute_ref_log_probs=entry.precompute,
        model_init_kwargs={"dtype": "bfloat16" if entry.precision == "pure" else "float32"},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=entry.rank,
        lora_alpha=entry.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return trainer_class(recorder, reads_loss=entry.gate is not None)(
        model=entry.model,
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
        data_collator=collator(recorder, tokenizer.pad_token_id),
        callbacks=[clock(recorder)],
        peft_config=lora if entry.adapter == "lora" else None,
    )


def trainer_class(recorder: Recorder, reads_loss: bool) -> Any:
    """DPOTrainer for data that is tokenized already, which reports to the recorder."""
    from trl import DPOTrainer

    class Raced(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *rest: Any) -> Any:
            began = now()
            done = super()._precompute_ref_logps(dataset, *rest)
            recorder.reference(now() - began, len(dataset))
            return done

        def compute_loss(self, *args: Any, **named: Any) -> Any:
            out = super().compute_loss(*args, **named)
            if reads_loss:  # waits for the device, so only where nothing is timed
                recorder.loss += float((out[0] if isinstance(out, tuple) else out).detach())
            return out

    return Raced


def collator(recorder: Recorder, pad: int) -> Any:
    """TRL's own collator; counts the tokens before they leave for the device."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class Counting(DataCollatorForPreference):  # type: ignore[misc]
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            made: dict[str, Any] = super().torch_call(examples)
            recorder.batch(made["input_ids"].numel(), int(made["attention_mask"].sum()))
            return made

    return Counting(pad_token_id=pad, max_length=None)


def clock(recorder: Recorder) -> Any:
    """A callback that notes when a step's last backward pass and its optimizer are done."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            recorder.last = now()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            recorder.backward = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            recorder.step(now())

    return Clock()


if __name__ == "__main__":
    main()
