"""The funnel: what came in, what was dropped under which reason, what remains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage left: `count` things called `unit`, and the number dropped per reason.

    `note` says aloud what a stage did beside dropping.
    """

    name: str
    count: int
    unit: str
    dropped: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(slots=True)
class Funnel:
    """The stages in their order, for the terminal and for the report."""

    stages: list[Stage] = field(default_factory=list)

    def add(
        self,
        name: str,
        count: int,
        unit: str,
        dropped: Mapping[str, int] | None = None,
        note: str = "",
    ) -> None:
        """Append a stage; reasons are kept with the most frequent first."""
        ranked = sorted((dropped or {}).items(), key=lambda item: (-item[1], item[0]))
        self.stages.append(Stage(name, count, unit, dict(ranked), note))

    @property
    def dropped(self) -> dict[str, int]:
        """All reasons over all stages, the most frequent first."""
        total: dict[str, int] = {}
        for stage in self.stages:
            for reason, number in stage.dropped.items():
                total[reason] = total.get(reason, 0) + number
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    def line(self) -> str:
        """One line: `640 rows read → 320 prompts → 301 pairs → 271 train + 30 held-out`.

        Of stages that count the same thing only the last is shown.
        """
        last = {stage.unit: f"{stage.count} {stage.unit}" for stage in self.stages}
        return " → ".join(last.values()).replace(" train → ", " train + ")

    def rows(self) -> Iterator[tuple[str, int, str, str]]:
        """(stage, count, unit, what was dropped and why) for each stage, for a table."""
        for stage in self.stages:
            said = [f"{number} {reason}" for reason, number in stage.dropped.items()]
            yield stage.name, stage.count, stage.unit, ", ".join([*said, *_note(stage)])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        return {"line": self.line(), "stages": [asdict(stage) for stage in self.stages]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Funnel:
        """Inverse of `to_dict`."""
        stages: Iterable[dict[str, Any]] = raw["stages"]
        return cls([Stage(**stage) for stage in stages])


def _note(stage: Stage) -> list[str]:
    return [stage.note] if stage.note else []
