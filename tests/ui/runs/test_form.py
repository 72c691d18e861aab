"""The form: a field for every setting, and every recipe through it and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from palate.config import RunConfig, build_config, load_config
from palate.sections import JudgeConfig, TrainConfig
from palate.ui.runs.fields import every_field, every_part, parsed, shown
from palate.ui.runs.form import fill, fresh, read
from palate.ui.runs.methods import methods, problems

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
RECIPES += [ROOT / "examples" / "support_desk" / "recipe.yaml"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_comes_back(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    values = fill(config)
    found = read(values, config.out)
    assert found.errors == {}
    assert found.config == config
    written = tmp_path / "again.yaml"
    written.write_text(found.text, encoding="utf-8")
    assert load_config(written) == config
    assert all(isinstance(value, str | bool) for value in values.values())


def odd() -> dict[str, Any]:
    """Settings of every kind, away from their defaults, and such as no field can show."""
    return {
        "name": "odd",
        "out": "elsewhere",
        "model": {"path": "a model", "trust_remote_code": True},
        "data": {
            "path": ["a.jsonl", "b.jsonl"],
            "system": "Be brief.\nBe kind.",
            "heldout_values": ["one", " spaced ", "two\nlines"],
            "filters": {"languages": ["en", "no"], "contamination": []},
        },
        "method": [{"name": "dpo", "beta": 0.2}, {"name": "nll", "weight": 0.3}],
        "adapter": {"targets": ["q_proj", "v_proj"], "rank": 4},
        "optim": {"betas": [0.8, 0.95], "clip": None, "lr": 2e-5, "eps": 1e-9},
        "train": {
            "epochs": 2,
            "tokens_per_microbatch": 512,
            "best": "loss",
            "trackers": ["wandb", "tensorboard"],
        },
        "evaluate": {
            "judge": {
                "kind": "llm",
                "server": {
                    "url": "http://127.0.0.1:8000/v1",
                    "model": "big",
                    "extra": {"reasoning_effort": "low"},
                },
                "rubric": "",
            }
        },
        "gate": {"win_rate": None, "kl": 20},
        "rollout": {"judge": {"kind": "schema", "json_schema": {"type": "object"}}, "updates": 3},
        "stages": ["sft", {"method": {"name": "dpo"}, "train": {"epochs": 3}}],
    }


def test_settings_of_every_kind_come_back() -> None:
    config = build_config(odd())
    values = fill(config)
    assert read(values, "elsewhere").config == config
    # What a line of a list cannot hold, and an empty text where empty means null, are YAML.
    assert set(values["data.heldout_values"]) == {"yaml"}
    assert values["evaluate.judge.rubric"] == {"yaml": "''"}
    assert values["data.filters.languages"] == "en\nno"
    assert values["method"] == ""
    assert values["train.tokens_per_microbatch"] == "512"


def test_there_is_a_field_for_every_setting() -> None:
    fields, parts = every_field(), every_part()

    def walk(owner: type[BaseModel], under: str) -> None:
        for name, info in owner.model_fields.items():
            key = f"{under}{name}"
            if key in {"out", "resume", "method"}:
                continue
            assert (key in fields) != (key in parts), key
            if key in fields:
                assert fields[key].about == info.description
            else:
                inner = [a for a in _all(info.annotation) if isinstance(a, type)]
                (section,) = [a for a in inner if issubclass(a, BaseModel)]
                walk(section, f"{key}.")

    walk(RunConfig, "")
    for name, facts in methods().items():
        for one in facts.parameters:
            assert f"method.{name}.{one['name']}" in fields


def _all(annotation: Any) -> list[Any]:
    from typing import get_args

    return [annotation, *get_args(annotation)]


def test_the_kinds_of_fields() -> None:
    fields = every_field()
    kinds = {
        "name": "text",
        "seed": "integer",
        "model.trust_remote_code": "tick",
        "model.quantize": "choice",
        "data.path": "several",
        "data.system": "words",
        "data.filters.contamination": "list",
        "optim.lr": "number",
        "optim.betas": "yaml",
        "train.best": "choice",
        "train.tokens_per_microbatch": "integer",
        "train.trackers": "list",
        "evaluate.judge.json_schema": "yaml",
        "evaluate.judge.server.extra": "yaml",
        "stages": "yaml",
        "method.dpo.beta": "number",
        "method.f-dpo.divergence": "choice",
    }
    assert {key: fields[key].kind for key in kinds} == kinds
    assert (fields["data.heldout"].limits, fields["data.heldout"].default) == ("≥ 0, < 1", "0.1")
    assert (fields["optim.lr"].limits, fields["optim.lr"].empty) == ("> 0", True)
    assert (fields["optim.lr"].least, fields["optim.lr"].most) == (0, None)
    assert fields["train.tokens_per_microbatch"].limits == "≥ 8"
    assert fields["train.best"].choices == ("accuracy", "loss", "reward")
    assert fields["train.best"].empty
    assert not fields["train.order"].empty
    assert fields["model.path"].required
    assert [key for key, part in every_part().items() if part.optional] == [
        "evaluate.judge",
        "evaluate.judge.server",
        "rollout",
        "rollout.judge",
        "rollout.judge.server",
        "rollout.server",
    ]


def test_the_defaults_are_the_recipe_of_nothing_but_model_and_data() -> None:
    found = read(fresh() | {"model.path": "m", "data.path": "d.jsonl"}, "runs")
    assert found.errors == {}
    assert found.config is not None
    assert found.config.model_dump() == {
        **build_config({"model": "m", "data": "d.jsonl"}).model_dump(),
        "method": {"name": "dpo", "beta": 0.1},
    }
    assert yaml.safe_load(found.text) == {
        "out": "runs",
        "model": {"path": "m"},
        "data": {"path": "d.jsonl"},
        "method": {"name": "dpo", "beta": 0.1},
    }


GOOD = {"name": "x", "model.path": "m", "data.path": "d.jsonl"}


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"train.epochs": "0"}, {"train.epochs": r"greater than 0 \(got 0\)"}),
        ({"train.epochs": "many"}, {"train.epochs": "a number is wanted, not 'many'"}),
        ({"train.epochs": "nan"}, {"train.epochs": "a number is wanted"}),
        ({"train.epochs": ""}, {"train.epochs": "a number is wanted"}),
        ({"train.batch_size": "2.5"}, {"train.batch_size": "a whole number is wanted"}),
        ({"train.batch_size": "1_000"}, {"train.batch_size": "a whole number is wanted"}),
        ({"train.batch_size": ["2"]}, {"train.batch_size": "a text is wanted"}),
        ({"train.tokens_per_microbatch": "4"}, {"train.tokens_per_microbatch": "equal to 8"}),
        ({"train.order": "random"}, {"train.order": "one of examples, conversations"}),
        ({"model.trust_remote_code": "yes"}, {"model.trust_remote_code": "on or off"}),
        ({"model.path": " "}, {"model.path": "this is needed"}),
        ({"data.path": ""}, {"data.path": "this is needed"}),
        ({"optim.betas": "[0.9, 1.5]"}, {"optim.betas": r"both betas must lie in \[0, 1\)"}),
        ({"optim.betas": "[0.9"}, {"optim.betas": "not valid YAML"}),
        ({"train.patience": "2"}, {"train": "patience needs `best`"}),
        ({"name": "../up"}, {"name": "becomes a folder"}),
        ({"method.dpo.beta": "0"}, {"method.dpo.beta": "must be above 0"}),
        ({"method.dpo.beta": "x"}, {"method.dpo.beta": "a number is wanted"}),
        ({"method": "grpo"}, {"rollout": "learns from answers that it samples"}),
        ({"method": "dp0"}, {"method": "no method is called 'dp0'"}),
        ({"method": "", "method.yaml": ""}, {"method.yaml": "a method is wanted"}),
        ({"method": "", "method.yaml": "{name: dp0}"}, {"method": "did you mean 'dpo'"}),
        ({"method": "", "method.yaml": "{beta: 1}"}, {"method": "needs a name"}),
        (
            {"method": "", "method.yaml": "[{name: dpo, betta: 1}]"},
            {"method.dpo.betta": "did you mean 'beta'"},
        ),
        (
            {"rollout": True, "method": "sft", "rollout.prompts": "0"},
            {"rollout.prompts": "equal to 1"},
        ),
        ({"evaluate.judge": True, "evaluate.judge.kind": "rule"}, {"evaluate.judge": "needs rule"}),
        ({"evaluate.judge": "on"}, {"evaluate.judge": "on or off"}),
        ({"stages": "[1]"}, {"stages": "dictionary"}),
        ({"trian.epochs": "2"}, {"": "has no field 'trian.epochs'"}),
        ({"out": "/etc"}, {"": "has no field 'out'"}),
        ({"data.path": {"yaml": "[a", "more": 1}}, {"data.path": "a text is wanted"}),
    ],
)  # fmt: skip
def test_errors_stand_beside_their_field(given: dict[str, Any], errors: dict[str, str]) -> None:
    import re

    found = read(GOOD | given, "runs")
    assert found.config is None
    assert found.text == ""
    assert set(found.errors) == set(errors)
    for key, words in errors.items():
        assert re.search(words, found.errors[key]), found.errors[key]


def test_the_folder_is_the_sites() -> None:
    found = read(GOOD, "/data/runs")
    assert found.config is not None
    assert found.config.folder == Path("/data/runs/x")


def test_of_a_section_that_is_off_nothing_is_read() -> None:
    found = read(GOOD | {"rollout": False, "rollout.prompts": "none"}, "runs")
    assert found.config is not None
    assert found.config.rollout is None


def test_parsed_and_shown_are_inverse_at_the_defaults() -> None:
    for field in every_field().values():
        if not field.required:
            assert shown(field, parsed(field, field.default)) == field.default


def test_a_text_is_never_more_than_a_text() -> None:
    found = read(GOOD | {"evaluate.rule": "--json\nname: other", "model.path": "[1, 2]"}, "runs")
    assert found.config is not None
    assert found.config.evaluate.rule == "--json\nname: other"
    assert found.config.model.path == "[1, 2]"
    assert yaml.safe_load(found.text)["model"] == {"path": "[1, 2]"}


def test_rollouts_of_methods_that_take_none() -> None:
    assert set(problems({"name": "kto"}, rollout=True)) == {"rollout"}
    assert problems({"name": "kto"}, rollout=False) == {}
    assert problems({"name": "grpo"}, rollout=True) == {}
    assert problems([{"name": "dpo"}, {"name": "nll", "weight": 2}], rollout=False) == {}


def test_sections_that_are_asked_for_here_are_those_of_the_recipe() -> None:
    assert {key.partition(".")[0] for key in every_part() if key} == {
        "model", "data", "adapter", "optim", "train", "evaluate", "gate", "rollout",
    }  # fmt: skip
    train = every_part()["train"]
    assert [one.label for one in train.fields] == list(TrainConfig.model_fields)
    judge = every_part()["rollout.judge"]
    assert {one.label for one in judge.fields} | {"server"} == set(JudgeConfig.model_fields)
