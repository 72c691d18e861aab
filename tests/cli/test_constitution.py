from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from palate.config import build_config

Palate = Callable[..., Result]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"Question {n}\n" for n in range(4)), encoding="utf-8")
    return path


def words(out: Path) -> list[object]:
    return ["-o", out, "max_new_tokens=12", "critique_tokens=8", "temperature=1.5"]


def test_a_tiny_model_is_asked_twice_with_the_same_result(
    palate: Palate, tiny_model_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["constitution", "critique", prompts, "-m", tiny_model_folder, "--json"]
    first = palate(*command, *words(tmp_path / "a.jsonl"))
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert found["prompts"] == 4
    assert found["kept"] + sum(found["left_out"].values()) == 4, "nothing goes silently"
    second = palate(*command, *words(tmp_path / "b.jsonl"))
    assert second.exit_code == 0
    for name in ("{}.jsonl", "{}.chains.jsonl"):
        one, other = (tmp_path / name.format(letter) for letter in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_another_constitution_does_not_go_on_with_the_log(
    palate: Palate, tiny_model_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["constitution", "critique", prompts, "-m", tiny_model_folder]
    palate(*command, *words(tmp_path / "a.jsonl"))
    done = palate(*command, *words(tmp_path / "a.jsonl"), "-c", "support-desk")
    assert done.exit_code == 2
    assert "made under other settings (constitution)" in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["only=[privcy]"], "did you mean 'privacy'"),
        (["-c", "absent.yaml"], "there is no constitution absent.yaml"),
        (["temprature=1"], "did you mean 'temperature'"),
    ],
)
def test_mistakes_are_one_line(
    palate: Palate, prompts: Path, tmp_path: Path, extra: list[str], said: str
) -> None:
    done = palate(
        "constitution", "critique", prompts, "-m", "m", "-o", tmp_path / "a.jsonl", *extra
    )
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1


@pytest.mark.usefixtures("cache")
def test_training_reads_the_demonstrations_for_a_step(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    from tests.speakers import Scripted

    from palate.cli.constitution import named, write_rows
    from palate.constitution.critique import Plan, chains, demonstrations, pairs
    from palate.ingest.prompts import read_prompts
    from palate.run import train

    source = tmp_path / "prompts.txt"
    source.write_text("".join(f"Question {n}\n" for n in range(8)), encoding="utf-8")
    speaker = Scripted(lambda turns, manner: f"Words {manner.seed} {turns[-1].content[-9:]}")
    ours = named("default")
    rows = chains(read_prompts(source), speaker, ours, Plan(), tmp_path / "log.jsonl")
    assert all(row["final"] for row in rows)
    write_rows(tmp_path / "sft.jsonl", list(demonstrations(rows, ours, "m")))
    write_rows(tmp_path / "dpo.jsonl", list(pairs(rows, ours, "m")))
    for method in ("sft", "dpo"):
        config = build_config(
            {
                "name": method,
                "out": str(tmp_path / "runs"),
                "model": str(tiny_model_folder),
                "data": {"path": str(tmp_path / f"{method}.jsonl"), "heldout": 0.2},
                "method": method,
                "train": {"batch_size": 4, "max_steps": 1, "precision": "fp32"},
                "evaluate": {"samples": 0},
            }
        )
        assert train(config).results["training"]["steps"] == 1


def test_a_tiny_model_answers_and_judges_itself(
    palate: Palate, tiny_model_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    words = ["max_new_tokens=12", "temperature=1.5", "average=2", "least=0"]
    command = ["constitution", "prefer", prompts, "-m", tiny_model_folder, *words, "--json"]
    first = palate(*command, "-o", tmp_path / "a.jsonl")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert found["prompts"] == found["pairs"] + sum(found["left_out"].values()) == 4
    again = palate(*command, "-o", tmp_path / "b.jsonl")
    assert again.exit_code == 0
    for name in ("{}.jsonl", "{}.opinions.jsonl"):
        one, other = (tmp_path / name.format(letter) for letter in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_a_file_of_two_answers_needs_a_judge_alone(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Q{n}", "chosen": "yes indeed", "rejected": "no"} for n in range(3)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["constitution", "prefer", path, "-o", tmp_path / "a.jsonl"]
    refused = palate(*command)
    assert refused.exit_code == 2
    assert "no judge: set judge.kind" in refused.output
    rule = palate(*command, "judge.kind=length", "judge.most=5")
    assert rule.exit_code == 2
    assert "takes no principle" in rule.output
    judge = ["judge.kind=local", f"judge.model={tiny_model_folder}", "least=0"]
    done = palate(*command, *judge, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["prompts"], found["sampled"]) == (3, 0)
    assert found["pairs"] + sum(found["left_out"].values()) == 3


def test_a_server_answers_critiques_and_judges(
    palate: Palate, prompts: Path, tmp_path: Path
) -> None:
    from tests.judge.chat_server import Handler, chat_server, judge_by, says

    def act(handler: Handler) -> None:
        system = handler.asked["messages"][0]["content"]
        if system.startswith("You judge"):
            return judge_by("better")(handler)
        if system.startswith("You improve"):
            return says("A better and kinder answer.")(handler)
        number = handler.asked["seed"] % 1000
        return says(f"{'better ' * (number % 2)}answer {number}")(handler)

    with chat_server() as server:
        server.otherwise = act
        where = ["-m", server.url, "server.model=m"]
        revised = palate(
            "constitution", "critique", prompts, *where, "-o", tmp_path / "a.jsonl", "--json"
        )
        assert revised.exit_code == 0, revised.output
        assert json.loads(revised.stdout)["kept"] == 4
        judge = ["judge.kind=llm", f"judge.server.url={server.url}", "judge.server.model=m"]
        judged = palate(
            *("constitution", "prefer", prompts, *where, *judge),
            *("-o", tmp_path / "b.jsonl", "--json"),
        )
        assert judged.exit_code == 0, judged.output
        assert json.loads(judged.stdout)["pairs"] == 4
    pairs = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert all("better" in pair["chosen"][0]["content"] for pair in pairs)
    assert all(pair["strength"] == 1.0 for pair in pairs)
