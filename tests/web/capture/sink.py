"""A recorder whose store is a file of lines, in the current folder, that misbehaves on demand.

While the file `block` is there it waits, while `fail` is there it raises, and whatever holds the
word in the file `refuse` is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from palate.records import Arrival, Signal
from palate.web.capture.recorder import main
from palate.web.capture.settings import CaptureConfig

STORED = "stored.jsonl"


class FileSink:
    def add(self, arrivals: Sequence[Arrival], source_name: str) -> None:
        while Path("block").exists():
            time.sleep(0.02)
        if Path("fail").exists():
            raise OSError("the sink fails as it was told")
        rows = [row(arrival, source_name) for arrival in arrivals]
        if Path("refuse").exists() and Path("refuse").read_text() in json.dumps(rows):
            raise RuntimeError("a value that cannot be stored")
        seen = {json.dumps(one) for one in stored(Path())}
        with Path(STORED).open("a") as file:
            for one in rows:
                if json.dumps(one) not in seen:
                    file.write(json.dumps(one) + "\n")

    def expire(self, days: float) -> int:
        Path("expired").write_text(str(days))
        return 0

    def close(self) -> None:
        pass


def row(arrival: Arrival, source: str) -> dict[str, object]:
    record = arrival.record
    if isinstance(record, Signal):
        said = {"about": list(record.about), "said": record.to_dict()}
    else:
        said = {"example": record.to_dict(), "tags": record.tags}
    where = record.provenance[0]
    return {
        "ids": list(arrival.ids),
        "user": arrival.user,
        "source": source,
        "time": where.time,
        "hash": where.hash,
        **said,
    }


def stored(folder: Path) -> list[dict[str, object]]:
    """What the sink has taken so far."""
    file = folder / STORED
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _open(config: CaptureConfig) -> FileSink:
    if Path("fail").exists():
        raise OSError("the sink cannot be opened")
    return FileSink()


if __name__ == "__main__":
    main(_open)
