"""`palate capture` as far as it goes without listening, and its last words."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from palate.cli.capturing import summary
from palate.cli.main import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "'upstream' is missing: give --upstream URL"),
        (["--upstream", "example.com"], "write the provider's base URL"),
        (["--upstream", "https://a/v1", "smaple=1"], "did you mean 'sample'?"),
        (["--settings", "nothing.yaml"], "cannot read the settings nothing.yaml"),
        (["--upstream", "https://a/v1", "host=203.0.113.7"], "cannot listen on"),
    ],
)
def test_what_cannot_work_is_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["capture", *words])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


COUNTS = {
    "captured": 7,
    "feedback": 2,
    "queued": 0,
    "spilled": 0,
    "stored": 9,
    "lost": 0,
    "sampled_out": 0,
    "rejected": {},
    "skipped": {},
}


def test_the_last_words_say_what_was_stored_and_where():
    assert summary(COUNTS, "palate.db", "spill") == [
        "captured 7 exchanges and 2 feedback: 9 stored in palate.db"
    ]


def test_the_last_words_leave_nothing_out():
    counts = {
        **COUNTS,
        "spilled": 3,
        "lost": 1,
        "sampled_out": 4,
        "rejected": {"stream-cut": 2},
        "skipped": {"too-large": 1, "no-answer": 5},
    }
    assert summary(counts, "postgresql://me:secret@db.internal/palate", "spill") == [
        "captured 7 exchanges and 2 feedback: 9 stored in postgresql://db.internal/palate",
        "3 wait in spill, and are stored at the next start",
        "1 lost",
        "4 left out by sample",
        "rejected: stream-cut 2",
        "skipped: too-large 1, no-answer 5",
    ]
