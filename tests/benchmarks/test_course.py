from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.racing.course import Course, Pair, digest, gate_course, read_course
from benchmarks.racing.workloads import WORKLOADS, draw, generated, make_course
from tests.tiny import byte_tokenizer

from palate.tokens.render import Renderer
from palate.tokens.tree import build_forest

PAIRS = (Pair((1, 2), (3,), (4, 5)), Pair((1,), (2, 6), (3,)))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(byte_tokenizer(), end_ids=(258,))


def test_a_course_comes_back_from_its_file(tmp_path: Path) -> None:
    course = Course("W0", PAIRS, ((1, 0),), even=False)
    course.write(tmp_path / "course.json")
    assert read_course(tmp_path / "course.json") == course


def test_the_hash_sees_every_id_and_where_the_answers_begin() -> None:
    hashes = {
        digest(triples)
        for triples in (
            [((1, 2), (3,), (4,))],
            [((1,), (2, 3), (4,))],  # the same ids, another border
            [((1, 2), (4,), (3,))],
            [((1, 2), (3,), (5,))],
            [((1, 2), (3,), (4,)), ((1,), (2,), (3,))],
        )
    }
    assert len(hashes) == 5
    assert Course("a", PAIRS, ((0,), (1,)), even=True).digest() == digest(
        (list(p.prompt), list(p.chosen), list(p.rejected)) for p in PAIRS
    )


@pytest.mark.parametrize("name", ["W1", "W2", "W4", "W5"])
def test_generated_pairs_have_the_promised_lengths(name: str, renderer: Renderer) -> None:
    workload = WORKLOADS[name]
    assert workload.lengths is not None
    course = make_course(workload, renderer, 2, None)
    assert len(course.pairs) == 2 * workload.pairs
    assert course.even
    for pair in course.pairs:
        assert (len(pair.prompt), len(pair.chosen), len(pair.rejected)) == workload.lengths
        assert pair.prompt[: workload.shared] == course.pairs[0].prompt[: workload.shared]
    assert len({pair.chosen for pair in course.pairs}) == len(course.pairs)
    assert make_course(workload, renderer, 2, None) == course


def test_each_pair_is_drawn_once() -> None:
    assert sorted(row for step in draw(3, 4) for row in step) == list(range(12))
    assert draw(3, 4) == draw(3, 4)


def forest_tokens(course: Course, step: int) -> int:
    from benchmarks.racing.ours import as_example

    examples = [as_example(course.pairs[row], "x") for row in course.steps[step]]
    return build_forest([b for e in examples for b in e.branches]).unique_tokens


def test_w4_shares_its_system_prompt(renderer: Renderer) -> None:
    """32 pairs of 2 · (1,040 + 60) tokens over 1,000 + 32 · (40 + 2 · 60): 70,400 / 6,120."""
    course = make_course(WORKLOADS["W4"], renderer, 1, None)
    alone = sum(pair.tokens for pair in course.pairs)
    assert alone == 70_400
    # random turns and answers may begin alike by chance, so the forest can be a little smaller
    assert alone / forest_tokens(course, 0) == pytest.approx(70_400 / 6_120, rel=0.01)


def test_w5_has_next_to_nothing_to_share(renderer: Renderer) -> None:
    course = make_course(WORKLOADS["W5"], renderer, 1, None)
    assert sum(pair.tokens for pair in course.pairs) == 8 * 2 * 256
    assert forest_tokens(course, 0) > 0.95 * 8 * 2 * 256


def test_w3_without_its_file_has_the_lengths_of_the_real_pairs(renderer: Renderer) -> None:
    course = make_course(WORKLOADS["W3"], renderer, 7, None)
    assert len(course.pairs) == 56
    assert all(pair.longest <= 1024 for pair in course.pairs)
    assert len({(len(p.prompt), len(p.chosen)) for p in course.pairs}) > 40
    assert not course.even


def test_w3_takes_real_pairs_from_a_file(tmp_path: Path, renderer: Renderer) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(
            f'{{"prompt": "say {n}", "chosen": "yes {n}", "rejected": "no {n}"}}\n'
            for n in range(8)
        ),
        encoding="utf-8",
    )
    course = make_course(WORKLOADS["W3"], renderer, 1, path)
    texts = {renderer.tokenizer.decode(pair.chosen) for pair in course.pairs}
    assert texts == {f"yes {n}<|end|>" for n in range(8)}
    with pytest.raises(ValueError, match="8 pairs that fit; the race needs 16"):
        make_course(WORKLOADS["W3"], renderer, 2, path)


def test_the_gate_takes_the_shortest_pairs_and_cuts_them(renderer: Renderer) -> None:
    long = generated(renderer, [(1500, 100, 90)] * 4 + [(10, 5, 7)], 0)
    course = Course("W9", tuple(long), ((0, 1, 2, 3, 4),), even=False)
    gate = gate_course(course, draw(2, 2))
    assert gate.pairs[0] == long[4]
    assert [len(p.prompt) for p in gate.pairs[1:]] == [384] * 3
    assert [len(p.chosen) for p in gate.pairs[1:]] == [64] * 3
    assert sorted(row for step in gate.steps for row in step) == [0, 1, 2, 3]
    assert replace(gate, workload="other").digest() == gate.digest()
