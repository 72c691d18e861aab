"""The whole loop, twice: traffic, pairs, training, the gate, a GGUF file, a server, feedback.

From a checkout, with `palate[demo,llamacpp,web]` and the package openai installed:

    python examples/support_desk/round_trip.py --out round-trip

Every step is a command that a team would run itself, printed as it is run. Customers are played by
this script: the served model answers messages that the first round was trained on, and each
answer gets a thumb by the house rules, as in the log. Held-out messages are asked as well, and get
no thumb. A step that is done is not done again, so the script goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from openai import OpenAI

from palate.judge.rules import Rule, load_rule
from palate.records import Example
from palate.store.snapshot import read_snapshot

T = TypeVar("T")
AT_ONCE = 8
"""Requests on their way."""
HERE = Path(__file__).resolve().parent


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the round trip and return what `round-trip.json` holds."""
    trip = Trip(_arguments().parse_args(words))
    trip.bring_traffic()
    trip.train("round-1", trip.args.model)
    trip.measure("round-1")
    if not trip.found["round-1"]["passed"]:
        return trip.end("the gate keeps round 1 in, so that nothing is served")
    artefact = trip.export("round-1")
    with trip.serving(artefact) as client:
        model = client.models.list().data[0].id
        trip.ask_heldout(client, model)
        trip.ask_customers(client, model)
    trip.check_store()
    trip.train("round-2", str(trip.runs / "round-1" / "model"), trip.args.second)
    trip.measure("round-2")
    return trip.end(trip.verdict())


class Trip:
    """One round trip: its folder, its store, and what was found on the way."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.home = Path(args.out).resolve()
        self.runs, self.db = self.home / "runs", self.home / "desk.db"
        self.home.mkdir(parents=True, exist_ok=True)
        self.rule: Rule = load_rule(args.rule)
        self.file = self.home / "round-trip.json"
        known = self.file.is_file()
        self.found: dict[str, Any] = json.loads(self.file.read_text()) if known else {}

    def bring_traffic(self) -> None:
        """The product's log into the store; twice adds nothing."""
        self.palate("import", self.args.traffic, "--db", self.db)

    def train(self, name: str, model: str, more: Sequence[str] = ()) -> None:
        """A round of training on what the store holds by now."""
        if (self.runs / name / "results.json").is_file():
            return
        self.palate(
            "train",
            self.args.recipe,
            f"name={name}",
            f"out={self.runs}",
            f"model.path={model}",
            f"data.path={self.db}",
            f"evaluate.rule={self.args.rule}",
            "resume=auto",
            *self.args.settings,
            *more,
        )

    def measure(self, name: str) -> None:
        """The gate's word on a round, beside the model that the first one began with."""
        run = self.runs / name
        if not self.passes(run):  # the gate's settings may be others than last time
            words = ("eval", run, "--base", self.args.model, *self.args.settings)
            self.palate(*words, allowed=(0, 3))
        report = json.loads((run / "evaluation" / "report.json").read_text(encoding="utf-8"))
        answers = report["answers"]
        self.found[name] = {
            "passed": report["gate"]["passed"],
            "failed": [check["name"] for check in report["gate"]["checks"] if not check["passed"]],
            "rule": answers["after"]["share"],
            "rule_interval": answers["after"]["interval"],
            "rule_failed": answers["after"]["failed"],
            "base_rule": answers["before"]["share"],
            "win_rate": report["wins"]["rate"],
            "win_rate_interval": report["wins"]["interval"],
            "words": answers["after"]["words"],
            "kl": (report["drift"] or {}).get("kl"),
            "pairs": len(read_snapshot(run / "snapshot").train),
        }
        self.save()

    def passes(self, run: Path) -> bool:
        """Whether a round was measured, and let out."""
        report = run / "evaluation" / "report.json"
        return report.is_file() and json.loads(report.read_text())["gate"]["passed"] is True

    def export(self, name: str) -> Path:
        """The round's model in the form that is served, after its parity check."""
        out = self.home / f"{name}-{self.args.to}"
        if not out.is_dir():
            kind = ["--to", self.args.to, "--out", out]
            kind += ["--quantize", self.args.quantize] if self.args.to == "gguf" else []
            self.palate("export", self.runs / name, *kind)
        ship = json.loads((out / "ship.json").read_text(encoding="utf-8"))
        self.found["export"] = ship.get("parity")
        self.save()
        return next(out.glob("*.gguf")) if self.args.to == "gguf" else out

    @contextmanager
    def serving(self, model: Path) -> Iterator[OpenAI]:
        """OpenAI's client of a server that runs meanwhile, and then is told to end."""
        words = [sys.executable, "-m", "palate.cli", "serve", str(model), "--db", str(self.db)]
        words += ["--port", str(self.args.port)]
        say(f"$ palate {shlex.join(words[3:])}")
        with subprocess.Popen(words) as server:  # noqa: S603 - our own program
            try:
                self._wait(server)
                yield OpenAI(base_url=f"{self.address}/v1", api_key="unused", max_retries=0)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(timeout=120)

    @property
    def address(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.args.port}"

    def _wait(self, server: subprocess.Popen[bytes]) -> None:
        for _ in range(600):
            if server.poll() is not None:
                raise SystemExit("the server ended before it was ready")
            try:
                if httpx.get(f"{self.address}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise SystemExit("the server was not ready within five minutes")

    def ask_heldout(self, client: OpenAI, model: str) -> None:
        """How often the served file follows the rules, on messages nobody trained on."""
        if "served" in self.found:
            return
        heldout = _distinct(read_snapshot(self.runs / "round-1" / "snapshot").heldout)

        def ask(number: int) -> list[bool]:
            example = heldout[number]
            said = self._ask(client, model, example, 1, number)
            return [self.rule(example.prompt, text).passed for _, text in said]

        passed = [one for found in at_once(ask, len(heldout)) for one in found]
        self.found["served"] = {"answers": len(passed), "rule": sum(passed) / len(passed)}
        self.save()

    def ask_customers(self, client: OpenAI, model: str) -> None:
        """Messages with several answers each, and a thumb for every answer."""
        if "feedback" in self.found:
            return
        train = _distinct(read_snapshot(self.runs / "round-1" / "snapshot").train)
        train = train[: self.args.customers]
        before = self._thumbs()

        def ask(number: int) -> list[str]:
            example, ratings = train[number], []
            said = self._ask(client, model, example, self.args.answers, 10_000 + number)
            for (name, choice), text in said:
                ratings.append("up" if self.rule(example.prompt, text).passed else "down")
                body = {"id": name, "choice": choice, "rating": ratings[-1]}
                httpx.post(f"{self.address}/v1/feedback", json=body).raise_for_status()
            return ratings

        ratings = [one for found in at_once(ask, len(train)) for one in found]
        up = ratings.count("up")
        self.found["feedback"] = {"before": before, "up": up, "down": len(ratings) - up}
        self.save()

    def _ask(
        self, client: OpenAI, model: str, example: Example, n: int, seed: int
    ) -> list[tuple[tuple[str, int], str]]:
        said = client.chat.completions.create(
            model=model,
            messages=[m.to_dict() for m in example.prompt],  # type: ignore[misc]
            n=n,
            seed=seed,
            max_tokens=self.args.max_tokens,
            temperature=0.8,
            extra_body={"top_k": 50},
            metadata={"template": example.tags.get("template", "")},
        )
        return [((said.id, c.index), c.message.content or "") for c in said.choices]

    def check_store(self) -> None:
        """The thumbs that were sent are in the store."""
        feedback = self.found["feedback"]
        feedback["stored"] = self._thumbs() - feedback["before"]
        self.save()
        sent = feedback["up"] + feedback["down"]
        if feedback["stored"] != sent:
            raise SystemExit(f"{sent} thumbs were sent, and {feedback['stored']} are in the store")

    def _thumbs(self) -> int:
        """Thumbs in the store on answers that were served."""
        from palate.store.database import Store
        from palate.store.reading import stored

        with Store.open(self.db, create=False) as store:
            return sum(
                signal.kind == "thumb"
                for one in stored(store)
                if any("palate.serve" in place.source for place in one.example.provenance)
                for signal in one.signals
            )

    def verdict(self) -> str:
        """Whether the second round is better than the first, as far as the figures tell."""
        first, second = self.found["round-1"], self.found["round-2"]
        gain = second["rule"] - first["rule"]
        said = f"{first['rule']:.0%} of the answers followed the rules after round 1, "
        said += f"{second['rule']:.0%} after round 2 ({100 * gain:+.0f} points)"
        low, high = second["rule_interval"]
        word = "within chance of one another"
        if low > first["rule"]:
            word = "better"
        elif high < first["rule"]:
            word = "worse"
        if second["passed"]:
            return f"{said}: {word}{self.why(word)}, and the gate lets it out"
        kept_in = f"the gate keeps it in ({', '.join(second['failed'])})"
        return f"{said}: {word}{self.why(word)}, and {kept_in}"

    def why(self, word: str) -> str:
        """Of a second round that is not better: the part of the rules that it fails more often."""
        before, after = (self.found[name]["rule_failed"] for name in ("round-1", "round-2"))
        risen = {part: share - before.get(part, 0.0) for part, share in after.items()}
        part = max(risen, key=lambda name: risen[name], default="")
        if word == "better" or not part or risen[part] <= 0:
            return ""
        lengths = [f"{self.found[name]['words']:.0f}" for name in ("round-1", "round-2")]
        share = f"{part} fails in {before.get(part, 0.0):.0%} and then in {after[part]:.0%}"
        return f" ({share}; the mean answer went from {' to '.join(lengths)} words)"

    def palate(self, *words: object, allowed: Sequence[int] = (0,)) -> None:
        """One command of the program; its output is shown."""
        given = [str(word) for word in words]
        say(f"$ palate {shlex.join(given)}")
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "palate.cli", *given], check=False
        )
        if done.returncode not in allowed:
            raise SystemExit(f"palate {given[0]} ended with exit code {done.returncode}")

    def save(self) -> None:
        """What was found so far."""
        self.file.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")

    def end(self, verdict: str) -> dict[str, Any]:
        """Say how it went, and keep it."""
        self.found["verdict"] = verdict
        self.save()
        say(f"\n{verdict}\neverything in {self.home}, the figures in {self.file}")
        return self.found


def at_once(ask: Callable[[int], T], count: int) -> list[T]:
    """`ask(0)`, …, `ask(count − 1)`, a few at a time, as users come."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(count)))


def say(line: str) -> None:
    """One line that stands before what the next command writes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _distinct(examples: Sequence[Example]) -> list[Example]:
    return list({example.prompt_key: example for example in examples}.values())


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default="round-trip", help="folder of everything that is made")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--traffic", default=str(HERE / "traffic.jsonl"))
    parser.add_argument("--recipe", default=str(HERE / "recipe.yaml"))
    parser.add_argument("--rule", default=f"{HERE / 'rules.py'}:house_rules")
    parser.add_argument("--to", default="gguf", choices=["gguf", "merged"])
    parser.add_argument("--quantize", default="q8_0")
    parser.add_argument("--customers", type=int, default=120, help="messages of the second round")
    parser.add_argument("--answers", type=int, default=4, help="answers to each of them")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument(
        "--second",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the second round alone; repeatable",
    )
    parser.add_argument("settings", nargs="*", help="more settings of the recipe, as key=value")
    return parser


if __name__ == "__main__":
    main()
