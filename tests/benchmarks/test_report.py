"""What a race writes is read back, and drawn without racing again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.racing.figures import Figures, Ratio
from benchmarks.racing.report import Race, read_race, table

ROOT = Path(__file__).resolve().parents[2]


def race() -> Race:
    figures = {
        "Palate": Figures((2.0, 4.0, 3.0), 8, 900.0, 900.0, 2.0 * 2**30, 0.25),
        "TRL tuned": Figures((12.0, 16.0, 15.0), 8, 1800.0, 900.0, 6.0 * 2**30, 0.05),
    }
    ratios = {"TRL tuned": Ratio(5.0, 4.0, 6.0, sharing=2.0, engine=2.5, memory=1 / 3)}
    return Race("W3", "real chat pairs", "lora", "mixed", figures, ratios)


def test_a_race_comes_back_from_json() -> None:
    assert read_race(json.loads(json.dumps(race().to_json()))) == race()


def test_tables_and_chart_of_earlier_races(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"races": [race().to_json()]}), encoding="utf-8")
    drawn = tmp_path / "chart.svg"
    command = [sys.executable, str(ROOT / "benchmarks" / "race.py"), "--read", *map(str, paths)]
    done = subprocess.run(
        [*command, "--chart", str(drawn)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count(table(race())) == 2
    assert "against TRL tuned: 5.00× (4.00 to 6.00 in 3 rounds)" in done.stdout
    assert drawn.read_text(encoding="utf-8").startswith("<svg")
