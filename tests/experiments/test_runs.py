"""Runs go on where they were stopped, and only with the same cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.experiments.ground import Ground
from palate.experiments.runs import Case, Point, run_all


def test_a_stopped_one_goes_on_where_it_was(ground: Ground, tmp_path: Path) -> None:
    done: list[str] = []

    def cases(most: int) -> list[Case]:
        def case(name: str) -> Case:
            def run(on: Ground, seed: int) -> list[Point]:
                assert on is ground
                if len(done) == most:
                    raise KeyboardInterrupt
                done.append(f"{name} {seed}")
                return [{"kl": seed}, {"kl": 2.0 * seed}]

            return Case("line", name, run)

        return [case("a"), case("b")]

    path = tmp_path / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_all(ground, ground.scale, path, cases(3), [0, 1])
    with path.open("a") as file:
        file.write('{"case": "cut sh')
    said: list[str] = []
    found = run_all(ground, ground.scale, path, cases(99), [0, 1, 2], said.append)
    names = [f"{name} {seed}" for seed in (0, 1, 2) for name in ("a", "b")]
    assert done == names
    assert [f"{row['case']} {row['seed']}" for row in found] == names
    assert found[3]["points"] == [{"kl": 1}, {"kl": 2.0}]
    assert said[0].startswith("b, seed 1: kl 2, ")
    with pytest.raises(ValueError, match=r"runs\.jsonl"):
        run_all(ground, ground.scale, path, cases(99)[:1], [0])
