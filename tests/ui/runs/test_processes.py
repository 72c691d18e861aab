"""The life of a process that the pages started: it outlives them, and is never mistaken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.config import build_config, dump_config
from palate.durable import hold
from palate.ui.runs import states
from palate.ui.runs.alive import Known, birth, is_alive, send
from palate.ui.runs.log import BYTES, LINES, last_error, tail
from palate.ui.runs.names import check_name
from palate.ui.runs.processes import Processes

# Stands for `palate train RECIPE [resume=auto]`: holds the folder, saves at the first signal.
COMMAND_LINE = """
import fcntl, json, os, pathlib, signal, sys, time, yaml
words = sys.argv[1:]
assert words[0] == "train", words
recipe = yaml.safe_load(open(words[1]))
folder = pathlib.Path(recipe["out"]) / recipe["name"]
mode = recipe["data"]["path"]
print("loading", os.environ.get("FAKE_API_KEY"), flush=True)
print("opened by", os.environ.get("PALATE_UI_TOKEN", "nobody"), flush=True)
if mode == "refused":
    print("error: no usable row in my.jsonl: add thumbs", file=sys.stderr)
    sys.exit(2)
lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
(folder / "metrics.jsonl").touch()
asked = []
def ask(number, frame):
    asked.append(number)
    if mode != "deaf" and len(asked) > 1:
        print("stopped at once. Continue with:"); sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, ask)
print("ready", flush=True)
if "resume=auto" in words:
    (folder / "results.json").write_text("{}")
    sys.exit(0)
while not asked or mode in {"slow", "deaf"}:
    time.sleep(0.01)
print("everything so far is saved. Continue with:")
sys.exit(130)
"""
PATIENCE = 300.0


def until(condition: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


class World:
    """A folder of runs, and the stand-in for the command line."""

    def __init__(self, home: Path) -> None:
        script = home / "command_line.py"
        script.write_text(COMMAND_LINE)
        self.home, self.runs = home, home / "runs"
        self.command = (sys.executable, str(script))
        self.here = self.site()

    def site(self) -> Processes:
        return Processes(self.runs, self.command)

    def start(self, name: str, mode: str = "patient", site: Processes | None = None) -> Any:
        config = build_config({"name": name, "out": str(self.runs), "model": "m", "data": mode})
        return (site or self.here).start(name, dump_config(config), config)

    def ready(self, name: str, times: int = 1) -> None:
        until(lambda: self.here.log(name).read_text().count("ready") == times, "being ready")

    def becomes(self, name: str, word: str, site: Processes | None = None) -> states.State:
        looks = site or self.here
        until(lambda: looks.state(name).word == word, f"{word} of {name}")
        return looks.state(name)

    def end(self) -> None:
        for path in (self.runs / ".processes").glob("*.json"):
            raw = json.loads(path.read_text())
            send(Known(raw["pid"], raw["born"]), signal.SIGKILL, group=True)

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.runs / ".processes" / f"{name}.json").read_text())
        return found


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    yield made
    made.end()


def test_it_is_started_stopped_and_resumed(world: World) -> None:
    begun = world.start("desk")
    assert (begun.word, begun.stop, begun.resume) == ("running", True, False)
    assert (world.runs / "desk" / "config.yaml").is_file()
    world.ready("desk")
    assert world.here.stop("desk").word in {"saving", "stopped"}
    stopped = world.becomes("desk", "stopped")
    assert (stopped.stop, stopped.resume, stopped.error) == (False, True, "")
    until(lambda: world.record("desk")["code"] == 130, "the exit code")
    world.here.resume("desk")
    complete = world.becomes("desk", "complete")
    assert (complete.stop, complete.resume) == (False, False)
    with pytest.raises(ValueError, match="complete: there is nothing to resume"):
        world.here.resume("desk")
    assert world.record("desk")["words"][1:] == [
        str(world.runs / "desk" / "config.yaml"),
        "resume=auto",
    ]


def test_it_leads_a_session_of_its_own_and_hears_sigint_though_the_site_ignores_it(
    world: World,
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pid = world.start("desk").pid
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.getsid(pid) == pid != os.getsid(0)
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    assert not int(ignored, 16) & 1 << (signal.SIGINT - 1)


def test_what_opens_the_site_is_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_UI_TOKEN", "a-token-for-tests")
    world.start("desk")
    world.ready("desk")
    assert "opened by nobody\n" in world.here.log("desk").read_text()


STARTS = """
import sys, time
from pathlib import Path
from palate.config import build_config, dump_config
from palate.ui.runs.processes import Processes
runs, *command = sys.argv[1:]
config = build_config({"name": "desk", "out": runs, "model": "m", "data": "patient"})
Processes(Path(runs), command).start("desk", dump_config(config), config)
print("started", flush=True)
time.sleep(600)
"""


def test_it_outlives_the_site_that_started_it(world: World) -> None:
    site = subprocess.Popen(
        [sys.executable, "-c", STARTS, str(world.runs), *world.command], stdout=subprocess.PIPE
    )
    assert site.stdout is not None
    assert site.stdout.readline() == b"started\n"
    site.kill()
    site.wait()
    site.stdout.close()
    world.ready("desk")
    found = world.here.state("desk")
    assert (found.word, found.stop) == ("running", True)
    world.here.stop("desk")
    # Nobody was there to see its exit code, and yet its end is known.
    assert world.becomes("desk", "stopped").resume
    assert world.record("desk")["code"] is None


def test_a_pid_that_was_given_out_again_is_not_ours(world: World) -> None:
    world.start("desk")
    world.ready("desk")
    world.here.stop("desk")
    world.becomes("desk", "stopped")
    until(lambda: world.record("desk")["code"] is not None, "the exit code")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        raw = world.record("desk") | {"pid": other.pid, "code": None, "asked": []}
        (world.runs / ".processes" / "desk.json").write_text(json.dumps(raw))
        assert world.here.state("desk").word != "running"
        for insist in ("", "term", "kill"):
            with pytest.raises(ValueError, match="nothing to stop"):
                world.here.stop("desk", insist)
        assert not send(Known(other.pid, raw["born"]), signal.SIGKILL)
        assert not send(Known(other.pid, raw["born"]), signal.SIGKILL, group=True)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_process_is_known_by_its_birth() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = birth(child.pid)
    assert born is not None
    assert is_alive(Known(child.pid, born))
    assert born != birth(os.getpid())
    assert not is_alive(Known(child.pid, f"{born}0"))
    child.kill()
    until(lambda: birth(child.pid) is None, "the end of one that was not waited for")
    child.communicate()
    assert not is_alive(Known(child.pid, born))


def test_insisting_is_asked_in_turn_and_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start("desk", "deaf")
    world.ready("desk")
    with pytest.raises(ValueError, match="give it time"):
        world.here.stop("desk", "term")
    world.here.stop("desk")
    world.here.stop("desk")  # a second click
    assert [name for name, _ in world.record("desk")["asked"]] == ["SIGINT"]
    assert world.here.state("desk").insist == ""
    with pytest.raises(ValueError, match="give it time"):
        world.here.stop("desk", "term")
    monkeypatch.setattr(states, "PATIENCE", 0.0)
    assert world.here.state("desk").insist == "term"
    with pytest.raises(ValueError, match="give it time"):
        world.here.stop("desk", "kill")
    world.here.stop("desk", "term")
    assert world.here.state("desk").insist == "kill"
    world.here.stop("desk", "kill")
    stopped = world.becomes("desk", "stopped")
    assert stopped.resume
    until(lambda: world.record("desk")["code"] == -signal.SIGKILL, "the exit code")
    assert world.here.state("desk").error == "it was ended without saving"


def test_the_waits_are_counted_from_the_last_signal() -> None:
    asked = (("SIGINT", 100.0), ("SIGTERM", 150.0))
    assert states.going((), 0.0) == states.State("running", stop=True)
    assert states.going(asked[:1], 119.0).insist == ""
    assert states.going(asked[:1], 120.0).insist == "term"
    assert states.going(asked, 169.0).insist == ""
    assert states.going(asked, 170.0).insist == "kill"
    assert states.going((*asked, ("SIGKILL", 170.0)), 999.0).insist == ""


def test_a_refused_recipe_says_why_and_can_be_mended_under_its_name(world: World) -> None:
    world.start("desk", "refused")
    refused = world.becomes("desk", "refused")
    assert refused.error == "no usable row in my.jsonl: add thumbs"
    assert not refused.resume
    world.start("desk")
    world.ready("desk")
    assert world.here.state("desk").word == "running"
    assert "error" not in world.here.log("desk").read_text()


def test_a_name_is_taken_once(world: World) -> None:
    world.start("desk")
    with pytest.raises(ValueError, match="running already"):
        world.start("desk")
    world.ready("desk")
    world.here.stop("desk")
    world.becomes("desk", "stopped")
    with pytest.raises(ValueError, match="there is a run of the name 'desk' already"):
        world.start("desk")


def test_of_many_starts_at_once_one_is_made(world: World) -> None:
    outcomes: list[str] = []

    def begin() -> None:
        try:
            outcomes.append(world.start("desk", site=world.site()).word)
        except ValueError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["desk is running already"] * 7 + ["running"]
    world.ready("desk")


def test_a_run_from_a_terminal_is_seen_and_left_alone(world: World) -> None:
    folder = world.runs / "theirs"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: m\ndata: d\n")
    assert world.here.state("theirs") == states.State("unfinished", resume=True)
    lock = hold(folder / ".lock")
    assert lock is not None
    try:
        assert world.here.state("theirs") == states.State("elsewhere")
        with pytest.raises(ValueError, match="nothing to stop"):
            world.here.stop("theirs")
        with pytest.raises(ValueError, match="by another process already"):
            world.here.resume("theirs")
    finally:
        os.close(lock)
    assert world.here.state("theirs").word == "unfinished"


def test_a_run_that_was_moved_is_resumed_where_it_is(world: World) -> None:
    world.start("desk")
    world.ready("desk")
    world.here.stop("desk")
    world.becomes("desk", "stopped")
    (world.runs / "desk").rename(world.runs / "no")
    world.here.resume("no")
    words = world.record("no")["words"]
    assert words[3:] == [f'out="{world.runs}"', 'name="no"']  # no is a text, and not false


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "a\\b", "/etc", ".hidden", "-x", "--json", "a\0b", "a\nb",
     "new", "compare", "a.json", "a.", " a", "a ", "a" * 81, "a%2fb", "a=b", "_x"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(world: World, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)
    config = build_config({"name": "x", "out": str(world.runs), "model": "m", "data": "d"})
    with pytest.raises(ValueError, match="name"):
        world.here.start(name, "", config)
    for do in (world.here.state, world.here.stop, world.here.resume):
        with pytest.raises(ValueError, match="there is no run of that name"):
            do(name)
    assert not (world.runs / ".recipes").exists()


@pytest.mark.parametrize("name", ["desk", "dpo-2", "reinforce++", "my run_3.1", "Ümlaut", "7"])
def test_names_that_people_give(name: str) -> None:
    check_name(name)


def test_a_link_is_no_run(world: World) -> None:
    outside = world.home / "outside"
    outside.mkdir()
    (outside / "config.yaml").write_text("model: m\ndata: d\n")
    world.runs.mkdir()
    (world.runs / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="there is no run"):
        world.here.resume("link")


def test_a_record_that_cannot_be_read_is_none(world: World) -> None:
    world.start("desk")
    world.ready("desk")
    raw = world.record("desk")
    for text in ("{", "[]", '{"pid": 1}', json.dumps(raw | {"more": 1})):
        (world.runs / ".processes" / "desk.json").write_text(text)
        assert world.here.state("desk").word == "elsewhere"
    (world.runs / ".processes" / "desk.json").write_text(json.dumps(raw))


def test_the_tail_is_bounded_plain_and_without_keys(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    hidden = {
        "OPENAI_API_KEY": "correct-horse-battery",
        "HOME": "/home/somebody",
        "A_TOKEN": "true",
    }
    log.write_text(
        "\x1b[31mred\x1b[0m \x07bell\n10%\r20%\r30%\n\n"
        "asks with correct-horse-battery and sk-abcdefghijklmnopqrst\n"
        "postgresql://palate:hunter22@db/x /home/somebody true\n"
        "error: first\nerror: second\n"
    )
    lines = tail(log, environment=hidden)
    assert lines == [
        "red bell",
        "30%",
        "asks with *** and ***",
        "postgresql://***@db/x /home/somebody true",
        "error: first",
        "error: second",
    ]
    assert last_error(lines) == "second"
    assert last_error(lines[:4]) is None
    assert tail(log, since=log.read_bytes().index(b"error: s"), environment={}) == ["error: second"]
    log.write_text("x" * 100_000 + "\n" + "\n".join(f"line {n}" for n in range(1000)) + "\n")
    lines = tail(log, environment={})
    assert lines == [f"line {n}" for n in range(1000 - LINES, 1000)]
    log.write_text("y" * 10 * BYTES)
    assert [len(line) for line in tail(log, environment={})] == [400]
    assert tail(tmp_path / "none.log") == []


def test_the_environment_of_the_site_is_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "a-secret-of-the-site")
    world.start("desk")
    world.ready("desk")
    assert "a-secret-of-the-site" in world.here.log("desk").read_text()
    assert tail(world.here.log("desk"))[0] == "loading ***"


def test_ends_that_nobody_asked_for(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    log = tmp_path / "run.log"

    def after(code: int | None, said: str) -> states.State:
        log.write_text(said)
        return states.ended(tmp_path, log, since=0, code=code, asked=())

    memory = after(2, "step 40\nerror: out of memory: start anew\n")
    assert memory == states.State("failed", resume=True, error="out of memory: start anew")
    assert after(None, "error: broken\n") == replace(memory, error="broken")
    assert after(-9, "step 40\n").error == "it was ended by signal 9 of the system or of somebody"
    assert after(1, "Traceback\nKeyError: 'x'\n").error == "KeyError: 'x'"
    assert after(0, "").error == "it ended with exit code 0 and said nothing"
    assert after(None, "step 40\n") == states.State("unfinished", resume=True)
    assert after(130, "stopped\n") == states.State("stopped", resume=True)
