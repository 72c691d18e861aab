"""Runs that were started from the pages: processes of the command line, which outlive the site.

Under the folder of runs, `.recipes/NAME.yaml` is the recipe, and `.processes/` holds `NAME.log`,
what the run says, and `NAME.json`, which process it is. A site that starts later reads them and
knows its runs again. Whether anybody trains in a folder, from a terminal too, tells its lock.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from palate.config import ConfigError, RunConfig, dump_config, load_config
from palate.durable import held, turn, write_json, write_text
from palate.ui.environment import environment
from palate.ui.runs.alive import Known, birth, is_alive, send
from palate.ui.runs.names import check_name, folder_of
from palate.ui.runs.states import State, ended, going, is_free

COMMAND = (sys.executable, "-P", "-m", "palate.cli")
"""The command line. `-P`: a file in the folder at hand never hides a module, as for `palate`."""
_WAIT = 10.0  # seconds for another start to be written down


@dataclass(frozen=True, slots=True)
class Started:
    """One attempt at a run: its process, when it began (Unix time), and what became of it.

    `words` are the arguments of `palate`, `log_from` is the byte of the log at which it begins.
    `asked` are the signals that were sent, with their times. `code` is the exit code, and None
    while it runs, or where nobody was there to see it end.
    """

    pid: int
    born: str
    began: float
    words: tuple[str, ...]
    log_from: int
    asked: tuple[tuple[str, float], ...] = ()
    code: int | None = None

    @property
    def known(self) -> Known:
        """Its process."""
        return Known(self.pid, self.born)


class Processes:
    """Starts, stops and resumes runs in the folder `runs`; safe from several threads and sites."""

    def __init__(self, runs: Path, command: Sequence[str] = COMMAND) -> None:
        self.runs, self._command = runs, tuple(command)
        self._recipes, self._home = runs / ".recipes", runs / ".processes"

    def recipe(self, name: str) -> Path:
        """Where the recipe of a run that is started here is kept."""
        return self._recipes / f"{name}.yaml"

    def log(self, name: str) -> Path:
        """What a run that was started here has said."""
        return self._home / f"{name}.log"

    def start(self, name: str, recipe: str, config: RunConfig) -> State:
        """Keep the recipe's text and train by it; `config` is the same, checked.

        The run's folder is there at once. Raises `ValueError` for a name that cannot be a folder's
        or is taken.
        """
        check_name(name)
        assert config.folder == self.runs / name, "a run that is started here lies here"
        folder = self.runs / name
        with self._alone():
            self._refuse_taken(name, folder)
            for place in (self._recipes, folder):
                place.mkdir(parents=True, exist_ok=True)
            write_text(self.recipe(name), recipe)
            # The command line finds a folder with nothing but beginnings, and begins anew.
            write_text(folder / "config.yaml", dump_config(config))
            self.log(name).unlink(missing_ok=True)
            self._spawn(name, ("train", str(self.recipe(name).absolute())))
        return self.state(name)

    def resume(self, name: str) -> State:
        """Go on with a run that is not complete; raises `ValueError` where that cannot be."""
        folder = folder_of(self.runs, name)
        with self._alone():
            self._refuse_busy(name, folder)
            if (folder / "results.json").is_file():
                raise ValueError(f"{name} is complete: there is nothing to resume")
            self._spawn(name, ("train", *_resuming(folder)))
        return self.state(name)

    def stop(self, name: str, insist: str = "") -> State:
        """Ask a run to save and end; `insist` is `term` to end at once, or `kill`.

        Each may be asked only after the one before was given its time. Raises `ValueError` where
        there is no such process of ours, or it is too early.
        """
        folder_of(self.runs, name)
        with self._alone():
            started = self._read(name)
            if started is None or not is_alive(started.known):
                raise ValueError(f"{name} is not running here: there is nothing to stop")
            allowed = going(started.asked).insist
            if insist and insist != allowed:
                raise ValueError(f"{name} is saving: give it time before insisting")
            if not insist and started.asked:
                return self.state(name)  # a second click says nothing new
            number = {"": signal.SIGINT, "term": signal.SIGTERM, "kill": signal.SIGKILL}[insist]
            send(started.known, number, group=insist == "kill")
            asked = (*started.asked, (number.name, time.time()))
            self._write(name, replace(started, asked=asked))
        return self.state(name)

    def state(self, name: str) -> State:
        """How a run is doing and what can be done about it; `NotThere`, a `ValueError`, if none."""
        folder = folder_of(self.runs, name)
        started = self._read(name)
        if started is not None and is_alive(started.known):
            found = going(started.asked)
        elif held(folder / ".lock"):
            found = State("elsewhere")
        else:
            code = started.code if started else None
            since = started.log_from if started else 0
            asked = started.asked if started else ()
            log = self.log(name) if started else None
            found = ended(folder, log, since=since, code=code, asked=asked)
        if started is None:
            return found
        shown = shlex.join(("palate", *(near(word) for word in started.words)))
        return replace(found, began=started.began, pid=started.pid, command=shown)

    def _refuse_taken(self, name: str, folder: Path) -> None:
        self._refuse_busy(name, folder)
        if not is_free(folder):
            raise ValueError(f"there is a run of the name '{name}' already: choose another")

    def _refuse_busy(self, name: str, folder: Path) -> None:
        started = self._read(name)
        if started is not None and is_alive(started.known):
            raise ValueError(f"{name} is running already")
        if held(folder / ".lock"):
            raise ValueError(f"{name} is trained by another process already, perhaps in a terminal")

    def _spawn(self, name: str, words: tuple[str, ...]) -> None:
        """Start the command line in a session of its own, and write down which process it is."""
        log = self.log(name)
        since = log.stat().st_size if log.exists() else 0
        into = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawn(
                self._command[0],
                [*self._command, *words],
                environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log.absolute()), into, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                # A site that was started in the background ignores SIGINT; its runs must not.
                setsigdef=[signal.SIGINT, signal.SIGTERM],
                setsigmask=[],
            )
        except OSError as error:
            raise ValueError(f"{name} could not be started: {error.strerror}") from error
        started = Started(pid, birth(pid) or "", time.time(), words, since)
        self._write(name, started)
        waiting = threading.Thread(target=self._wait, args=(name, started), daemon=True)
        waiting.start()

    def _wait(self, name: str, started: Started) -> None:
        """Note how it ended, if we are still there then."""
        _, status = os.waitpid(started.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with self._alone():
            now = self._read(name)
            if now is not None and now.known == started.known:
                self._write(name, replace(now, code=code))

    def _read(self, name: str) -> Started | None:
        try:
            raw = json.loads((self._home / f"{name}.json").read_text(encoding="utf-8"))
            words = tuple(str(word) for word in raw["words"])
            asked = tuple((str(one), float(at)) for one, at in raw["asked"])
            return Started(**{**raw, "words": words, "asked": asked})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            return None  # somebody's own file; the lock still says whether anyone trains

    def _write(self, name: str, started: Started) -> None:
        write_json(self._home / f"{name}.json", asdict(started))

    def _alone(self) -> AbstractContextManager[None]:
        """One at a time, whichever thread or site it is."""
        until = time.monotonic() + _WAIT

        def waiting() -> None:
            if time.monotonic() > until:
                raise ValueError("another site is starting a run: try again in a moment")

        return turn(self._home / ".lock", waiting)


def _resuming(folder: Path) -> list[str]:
    """The recipe in a run's folder, and where that is, if it has been moved since."""
    recipe = folder / "config.yaml"
    words = [str(recipe.absolute()), "resume=auto"]
    try:
        config = load_config(recipe)
    except ConfigError:
        return words  # the command line says the same, with the way out
    if config.folder.absolute() != folder.absolute():
        # As YAML, in which a JSON text is itself whatever it looks like.
        words += [f"out={json.dumps(str(folder.parent))}", f"name={json.dumps(folder.name)}"]
    return words


def near(word: str) -> str:
    """A path as one would type it here."""
    path = Path(word)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else word
