"""Both sides' own code: ours on a tiny model by hand, the other's bookkeeping, the referee."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.racing.course import Course, Pair, digest, read_course
from benchmarks.racing.duel import Failed, Processes, alternate, check_equal, same_tokens
from benchmarks.racing.longest import longest
from benchmarks.racing.ours import as_example, as_triple, train
from benchmarks.racing.sample import Entry, Sample, read_entry, read_sample, write
from benchmarks.racing.trl_side import Recorder, ordered, scale_body
from benchmarks.racing.tuning import divisors, tuned
from benchmarks.racing.workloads import Workload, draw, generated, make_course
from tests.tiny import byte_tokenizer, tiny_model
from torch.nn import functional

from palate.tokens.render import Renderer
from palate.tokens.tree import Branch

SMALL = Workload("W0", "a small one", 2, (20, 7, 7), 12)


@pytest.fixture(scope="module")
def course() -> Course:
    return make_course(SMALL, Renderer(byte_tokenizer(), end_ids=(258,)), 2, None)


def entry(model: Path, **changes: Any) -> Entry:
    base = Entry("palate", "", str(model), "full", "fp32", 1e-3, warm_up=1)
    return replace(base, **changes)


def by_hand(course: Course) -> float:
    """The first step's DPO loss from plain forwards: policy scaled, reference as loaded."""
    policy, reference = tiny_model(), tiny_model()
    with torch.no_grad():
        scale_body(policy)
        losses = []
        for row in course.steps[0]:
            pair = course.pairs[row]
            h = 0.0
            for sign, answer in ((1, pair.chosen), (-1, pair.rejected)):
                ids = torch.tensor([[*pair.prompt, *answer]])
                for side, net in ((1, policy), (-1, reference)):
                    logps = net(ids).logits[0, :-1].double().log_softmax(-1)
                    picked = logps.gather(1, ids[0, 1:, None])[len(pair.prompt) - 1 :]
                    h += sign * side * float(picked.sum())
            losses.append(float(-functional.logsigmoid(torch.tensor(0.1 * h))))
    return sum(losses) / len(losses)


def test_our_gate_loss_is_the_one_by_hand(course: Course, model: Path, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate.safetensors")
    sample = train(entry(model, gate=gate), course, tmp_path)
    expected = by_hand(course)
    assert abs(expected - 0.693147) > 1e-4, "the gate must not start at ln 2"
    assert sample.losses[0] == pytest.approx(expected, abs=1e-6)
    assert sample.losses[1] != pytest.approx(expected, abs=1e-5)
    assert len(sample.losses) == 2


def test_our_side_counts_what_it_computes(course: Course, model: Path, tmp_path: Path) -> None:
    sample = train(entry(model, adapter="lora"), course, tmp_path)
    assert sample.digest == course.digest()
    assert sample.losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert sample.path == [2 * 2 * 27] * 2
    # random letters: an answer may begin as its sibling does, but not for eight tokens
    assert sample.computed == sample.unique == [12 + 2 * (8 + 2 * 7)] * 2
    assert len(sample.seconds) == 2
    assert min(sample.seconds) > 0
    assert sample.reference_pairs == 4
    assert sample.reference_flops > 0
    # one forest over everything shares the 12 tokens once more than two steps do
    assert sample.reference_flops < sum(sample.flops) / 2
    assert sample.peak_bytes > 2**20
    assert sample.matmul_peak > 0
    assert list(tmp_path.glob("reference/*/complete.json")), "the reference is computed anew"
    assert not list(tmp_path.rglob("checkpoints")), "the last checkpoint is not raced"
    same_tokens(course, entry(model), sample)


def test_pairs_with_other_masks_are_refused() -> None:
    """A user turn inside an answer is not trained on by us, and would be by TRL."""
    example = as_example(Pair((1, 2), (3, 4), (5,)), "x")
    assert as_triple(example) == ([1, 2], [3, 4], [5])
    first = Branch((1, 2, 3, 4), (False, False, True, False))
    with pytest.raises(ValueError, match="whole answers"):
        as_triple(replace(example, branches=(first, example.branches[1])))


def test_entries_and_samples_come_back_from_their_files(tmp_path: Path) -> None:
    told = Entry("trl", "c", "m", "lora", "mixed", 1e-4, gate="g", pairs=3)
    write(told, tmp_path / "entry.json")
    assert read_entry(tmp_path / "entry.json") == told
    answer = Sample("abc", seconds=[1.5], computed=[3], facts={"threads": 2})
    write(answer, tmp_path / "sample.json")
    assert read_sample(tmp_path / "sample.json") == answer


def test_trls_side_needs_nothing_of_ours_and_no_torch_to_begin() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['palate', 'torch', 'numpy']))\n"
        "import benchmarks.racing.trl_side"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)


def test_tuned_steps_are_sorted_by_length_and_parts_are_cut(course: Course) -> None:
    renderer = Renderer(byte_tokenizer(), end_ids=(258,))
    pairs = generated(renderer, [(9, 30, 4), (9, 5, 6), (9, 8, 20)], 0)
    uneven = Course("W0", tuple(pairs), ((0, 2, 1),), even=False)
    told = Entry("trl", "", "", "lora", "mixed", 1e-4)
    assert ordered(told, uneven) == [[0, 2, 1]]
    assert ordered(replace(told, tuned=True), uneven) == [[1, 2, 0]]
    assert ordered(replace(told, pairs=2), uneven) == [[0, 2]]
    assert len(ordered(replace(told, steps=1), course)) == 1


def test_the_recorder_counts_micro_batches_into_steps() -> None:
    sample = Sample("")
    recorder = Recorder(sample, micros=2)
    recorder.batch(50, 40)
    recorder.reference(3.0, 4)
    assert (sample.computed, sample.reference_seconds, sample.reference_pairs) == ([], 3.0, 4)
    for computed, path in ((10, 8), (12, 9), (20, 20), (22, 21)):
        recorder.batch(computed, path)
    recorder.last = 100.0
    for loss, backward, end in ((0.6, 103.0, 104.0), (0.4, 108.0, 110.0)):
        recorder.loss = 2 * loss
        recorder.backward = backward
        recorder.step(end)
    assert (sample.computed, sample.path) == ([22, 42], [17, 41])
    assert (sample.seconds, sample.optimizer_seconds) == ([4.0, 6.0], [1.0, 2.0])
    assert sample.losses == pytest.approx([0.6, 0.4])


class Fake(Processes):
    """Answers from a function instead of a process."""

    def __init__(self, folder: Path, answer: Any) -> None:
        super().__init__({}, folder)
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "calls", [])

    def run(self, entry: Entry) -> Sample:
        self.calls.append(entry)  # type: ignore[attr-defined]
        return self.answer(entry)  # type: ignore[attr-defined, no-any-return]


def fed(course: Course, told: Entry, **more: Any) -> Sample:
    steps = [step[: told.pairs] for step in course.steps]
    rows = (
        range(len(course.pairs)) if told.side == "palate" else sorted(r for s in steps for r in s)
    )
    pairs = [course.pairs[row] for row in rows]
    return Sample(
        digest((p.prompt, p.chosen, p.rejected) for p in pairs),
        path=[sum(course.pairs[r].tokens for r in step) for step in steps],
        **more,
    )


def test_other_tokens_are_refused(course: Course) -> None:
    mine = Entry("palate", "", "", "lora", "mixed", 1e-4)
    other = replace(mine, side="trl", pairs=1)
    same_tokens(course, mine, fed(course, mine))
    same_tokens(course, other, fed(course, other))
    with pytest.raises(ValueError, match="not fed the course's token ids"):
        same_tokens(course, mine, replace(fed(course, mine), digest="0"))
    with pytest.raises(ValueError, match="tokens a step"):
        same_tokens(course, other, replace(fed(course, other), path=[1, 2]))


@pytest.mark.parametrize(
    ("apart", "passes"), [(0.9e-5, True), (1.1e-5, False), (float("nan"), False)]
)
def test_nothing_is_timed_unless_the_losses_agree(
    apart: float, passes: bool, tmp_path: Path
) -> None:
    renderer = Renderer(byte_tokenizer(), end_ids=(258,))
    whole = Course("W0", tuple(generated(renderer, [(20, 7, 7)] * 4, 0)), draw(2, 2), even=True)

    def answer(told: Entry) -> Sample:
        gate = read_course(Path(told.course))
        second = 0.65 + (apart if told.side == "trl" else 0.0)
        return fed(gate, told, losses=[0.7, second])

    fake = Fake(tmp_path, answer)
    entries = {
        "palate": Entry("palate", "", "", "lora", "mixed", 1e-4),
        "trl": Entry("trl", "", "", "lora", "mixed", 1e-4, pairs=1),
    }
    said: list[str] = []
    if passes:
        assert "agree to 9.0e-06" in check_equal(fake, whole, entries, said.append)[0]
    else:
        with pytest.raises(ValueError, match="nothing is timed"):
            check_equal(fake, whole, entries, said.append)
    assert len(said) == 2
    for told in fake.calls:  # type: ignore[attr-defined]
        assert told.precision == "fp32"
        assert told.gate is not None
        assert told.pairs is None


def test_processes_alternate(tmp_path: Path) -> None:
    fake = Fake(tmp_path, lambda told: Sample(told.side, seconds=[1.0]))
    mine = Entry("palate", "", "", "lora", "mixed", 1e-4)
    entries = {"Palate": mine, "TRL tuned": replace(mine, side="trl")}
    found = alternate(fake, entries, 2, lambda text: None)
    assert [told.side for told in fake.calls] == ["palate", "trl"] * 2  # type: ignore[attr-defined]
    assert {name: len(samples) for name, samples in found.items()} == {"Palate": 2, "TRL tuned": 2}


def test_tuning_takes_the_fastest_batch_that_fits(course: Course, tmp_path: Path) -> None:
    pace = {4: None, 2: 2.0, 1: 3.0}

    def answer(told: Entry) -> Sample:
        assert told.tuned
        assert not told.checkpointing
        took = pace[told.batch]
        if took is None:
            raise Failed("out of memory")
        return Sample("", seconds=[50.0, took], path=[10, 10])

    told = Entry("trl", "", "", "lora", "mixed", 1e-4)
    four = replace(course, steps=((0, 1, 2, 3),))
    said: list[str] = []
    best = tuned(Fake(tmp_path, answer), four, told, None, False, said.append)
    assert (best.batch, best.precompute, best.tuned, best.checkpointing) == (2, True, True, False)
    assert "4 pairs at once does not run: out of memory" in said[0]
    pace.update({2: None, 1: None})
    best = tuned(Fake(tmp_path, answer), four, told, None, False, said.append)
    assert (best.batch, best.checkpointing) == (1, True)
    with pytest.raises(ValueError, match=r"choose one of \[1, 2, 4\]"):
        tuned(Fake(tmp_path, answer), four, told, 3, False, said.append)


def test_a_quick_race_takes_the_batch_by_its_tokens(tmp_path: Path) -> None:
    renderer = Renderer(byte_tokenizer(), end_ids=(258,))
    pairs = tuple(generated(renderer, [(400, 100, 90)] * 8, 0))
    long = Course("W0", pairs, (tuple(range(8)),), even=True)
    told = Entry("trl", "", "", "lora", "mixed", 1e-4)
    # 2 · 4 · 500 = 4,000 tokens fit into 4,096, 2 · 8 · 500 do not
    assert tuned(Fake(tmp_path, None), long, told, None, True, print).batch == 4
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


@pytest.mark.parametrize("edge", [511, 512, 700, 3000, 9999, 10**9])
def test_the_longest_is_found_to_an_eighth(edge: int) -> None:
    tried: list[int] = []

    def fits(length: int) -> bool:
        tried.append(length)
        return length <= edge

    found = longest(fits)
    assert len(tried) == len(set(tried)) <= 13
    if edge < 512:
        assert found == 0
    elif edge > 2**17:
        assert found == 2**17
    else:
        assert found <= edge < found + max(128, found // 8) + 128
