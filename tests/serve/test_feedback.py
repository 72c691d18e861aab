"""The loop closes: served, judged by feedback, stored, and trained on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Served, until
from tests.tiny import END, byte_tokenizer

from palate.config import build_config
from palate.run import train
from palate.serve import job as jobs
from palate.serve.settings import Entry
from palate.serve.text import TokenLogp
from palate.store.database import Store
from palate.store.snapshot import read_snapshot

pytestmark = pytest.mark.usefixtures("cache")
QUESTIONS = 10


def tell(served: Served, about: str, **said: Any) -> httpx.Response:
    return httpx.post(f"{served.url}/feedback", json={"id": about, **said}, timeout=60)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that end by themselves, as the seed has them: one that is cut off is no example."""
    tokenizer, take = byte_tokenizer(), jobs.Choice.take

    def told(self: Any) -> Any:
        text = f"Answer {self.sampling.seed}, and why?"
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], END]
        self.fresh = TokenLogp(ids[self.count], 0.0)
        return take(self)

    monkeypatch.setattr(jobs.Choice, "take", told)


@pytest.mark.usefixtures("whole")
def test_feedback_on_what_was_served_is_what_the_next_run_trains_on(
    tiny: Path, tmp_path: Path
) -> None:
    """Two answers to each question, one liked and one not; one question's answer is edited."""
    db, liked, disliked = str(tmp_path / "palate.db"), {}, {}
    with Served([Entry("tiny", str(tiny))], db=db, max_tokens=60) as served:
        for number in range(QUESTIONS):
            text = f"Question {number}?"
            good = served.say(text, seed=1, user="anna")
            bad = list(served.say(text, seed=2, stream=True))
            liked[text] = good.choices[0].message.content
            disliked[text] = "".join(c.choices[0].delta.content or "" for c in bad)
            assert tell(served, good.id, rating="up").status_code == 202
            assert tell(served, bad[0].id, rating="down").status_code == 202
        edited = served.say("Edit me", seed=3)
        assert tell(served, edited.id, edit="As it should be.").status_code == 202
        refused = tell(served, edited.id, rating="sideways")
        assert refused.status_code == 400
        health = httpx.get(served.url.removesuffix("/v1") + "/health").json()
        assert health["store"]["captured"] == 2 * QUESTIONS + 1
    config = build_config(
        {
            "name": "next",
            "out": str(tmp_path / "runs"),
            "model": str(tiny),
            "data": {"path": db, "heldout": 0.2},
            "train": {"batch_size": 4, "max_steps": 2, "precision": "fp32"},
            "evaluate": {"samples": 0},
        }
    )
    done = train(config)
    data = read_snapshot(done.folder / "snapshot")
    pairs = {
        one.prompt[-1].content: tuple(c.text for c in one.completions)
        for one in [*data.train, *data.heldout]
    }
    assert set(liked.values()) == {"Answer 1, and why?"}
    expected = {text: (liked[text], disliked[text]) for text in liked}
    expected["Edit me"] = ("As it should be.", edited.choices[0].message.content)
    assert pairs == expected


def test_a_store_that_is_locked_delays_no_answer(tiny: Path, tmp_path: Path) -> None:
    """Another program holds the write lock: answers and feedback go on, and are stored later."""
    import sqlite3

    db = tmp_path / "palate.db"
    with Store.open(str(db)):
        pass
    with Served([Entry("tiny", str(tiny))], db=str(db)) as served:
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        ids = [served.say(f"Question {number}", max_tokens=4).id for number in range(5)]
        assert tell(served, ids[0], rating="up").status_code == 202
        waited = time.monotonic() - begin
        other.execute("ROLLBACK")
        other.close()
    with Store.open(str(db), create=False) as store, store.reading() as connection:
        count = "SELECT (SELECT count(*) FROM interaction), (SELECT count(*) FROM event)"
        assert tuple(connection.exec_driver_sql(count).one()) == (5, 1)
    assert waited < 60  # a request that waited for the store would have hung


def test_what_is_no_answer_is_not_stored(tiny: Path, tmp_path: Path) -> None:
    """Refused requests, and those whose client left; in the end one whole answer."""
    db = str(tmp_path / "palate.db")
    with Served([Entry("tiny", str(tiny))], db=db, max_tokens=1500) as served:
        httpx.post(f"{served.url}/chat/completions", json={"model": "tiny"})
        stream = served.say(seed=5, temperature=2, n=16, stream=True)
        next(iter(stream))
        stream.close()
        chat = served.running.app.chat
        assert chat is not None
        until(lambda: chat.open == 0, "the end of what was left")
        served.say(max_tokens=3, n=2, logprobs=True)
    with Store.open(db, create=False) as store, store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM interaction").scalar()
    assert rows == 1  # an exchange is one interaction, with an answer for each choice
