"""What a person sees: plain lines for logs, bars in a terminal, text as it is."""

from __future__ import annotations

import io
from typing import Any

import pytest

from palate import progress
from palate.progress import Plain, Quiet, Terminal, reporter_for


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say = Quiet()
    say.note("a")
    say.table("t", ["a"], [["b"]])
    with say.bar("x", 3) as bar:
        bar.advance(3, "info")
    assert capsys.readouterr() == ("", "")


def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say = Plain()
    say.note("hello")
    say.table("Data", ["stage", "count"], [["read", "7"], ["held-out", "12"]])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "hello",
        "Data",
        "  stage     count",
        "  read      7",
        "  held-out  12",
    ]


def test_a_plain_bar_speaks_every_ten_seconds_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    with Plain().bar("training", 4) as bar:
        bar.advance(1, "loss 0.6")
        clock = 112.0
        bar.advance()  # 2 of 4 in 12 s: 12 s are left
        clock = 113.0
        bar.advance(1, "loss 0.5")
        clock = 130.0
        bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "training: 2/4, 12 s left · loss 0.6",
        "training: 4/4 in 30.0 s · loss 0.5",
    ]


def test_a_bar_that_fails_does_not_claim_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), Plain().bar("training", 4):
        raise KeyError
    assert capsys.readouterr().err == ""


def _terminal(width: int = 80) -> tuple[Terminal, io.StringIO]:
    from rich.console import Console

    say, stream = Terminal(), io.StringIO()
    say.console = Console(file=stream, width=width, highlight=False)
    return say, stream


def test_a_terminal_shows_markup_as_it_is() -> None:
    say, stream = _terminal()
    say.note("a [bold]b[/bold] [/nothing]")
    say.table("", ["name"], [["[red]x[/]"]])
    text = stream.getvalue()
    assert "a [bold]b[/bold] [/nothing]" in text
    assert "[red]x[/]" in text


@pytest.mark.parametrize("info", ["loss 0.5", "held-out [50%]", "[/nothing]"])
def test_a_bar_in_a_terminal(info: str) -> None:
    say, stream = _terminal(120)
    with say.bar("sampling [after]", 3) as bar:
        bar.advance(2, info)
        bar.advance(1)
    text = stream.getvalue()
    assert "3/3" in text
    assert info in text
    assert "sampling [after]" in text


@pytest.mark.parametrize(("terminal", "kind"), [(True, Terminal), (False, Plain)])
def test_which_one(terminal: bool, kind: Any) -> None:
    assert isinstance(reporter_for(terminal), kind)
