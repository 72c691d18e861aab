"""Recipes: strict, with an error that names the cure, and read back as they were written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from palate.config import (
    ConfigError,
    RunConfig,
    apply_overrides,
    build_config,
    dump_config,
    load_config,
    nearest,
)

SMALL = {"model": "m", "data": "d.jsonl"}


def built(**settings: Any) -> RunConfig:
    return build_config({**SMALL, **settings})


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_smallest_recipe(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "model: m\ndata: [a.jsonl, b.csv]\n"))
    assert config.model.path == "m"
    assert config.data.path == ["a.jsonl", "b.csv"]
    assert config.method == {"name": "dpo"}
    assert config.folder == Path("runs/run")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"modle": "m"}, "unknown key 'modle'; did you mean 'model'?"),
        ({"train": {"epoch": 1}}, "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ({"optim": {"learning": 1}}, "unknown key 'optim.learning'"),
        (
            {"optim": {"zzz": 1}},
            "valid: betas, clip, eps, lr, name, schedule, warmup, weight_decay",
        ),
        ({"adapter": {"dropout": 0.1}}, "'adapter.dropout': Input should be less than or equal"),
        ({"method": {"beta": 1}}, "a method needs a name"),
        ({"name": "a/b"}, "the name of a run becomes a folder"),
        ({"name": ".."}, "the name of a run becomes a folder"),
        ({"train": {"batch_size": 0}}, "greater than or equal to 1 (got 0)"),
        ({"train": {"precision": "fp64"}}, "Input should be 'auto', 'fp32' or 'bf16'"),
        ({"data": {"path": "d", "heldout": 1.0}}, "less than 1"),
        ({"optim": {"betas": [0.9, 1.0]}}, "both betas must lie in [0, 1)"),
        ({"evaluate": {"temperature": -1}}, "greater than or equal to 0"),
        ({"seed": -1}, "'seed': Input should be greater than or equal to 0"),
        ({1: 2}, "Keys should be strings"),
    ],
)
def test_mistakes_are_named(raw: dict[Any, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_config({**SMALL, **raw})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_every_mistake_is_in_the_line() -> None:
    with pytest.raises(ConfigError) as error:
        build_config({"trian": 1, "optim": {"lr": -1}})
    for words in ("'model' is missing", "'data' is missing", "'train'?", "'optim.lr'"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "not valid YAML at line"),
        ("a: b: c", "not valid YAML at line 1"),
        ("- model", "must be a mapping"),
        ("", "must be a mapping"),
        ("when: 2024-13-45", "not valid YAML"),
        ("!!python/object/apply:os.system [echo]", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xfcber")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=2e-4", 2e-4),
        ("optim.lr=2E4", 2e4),
        ("optim.lr=-1.5e+3", -1500.0),
        ("optim.lr=0.5", 0.5),
        ("optim.lr=3", 3),
        ("optim.lr=null", None),
        ("optim.lr=", None),
        ("optim.lr=true", True),
        ("optim.lr='2e-4'", "2e-4"),
        ("optim.lr=nan", "nan"),
        ("optim.lr=1e", "1e"),
        ("optim.lr=[0.9, 99e-2]", [0.9, 0.99]),
        ("optim.lr={a: 1}", {"a": 1}),
        ("optim.lr=a=b", "a=b"),
        ("optim.lr=hub:owner/name", "hub:owner/name"),
    ],
)
def test_values_of_overrides(override: str, value: object) -> None:
    found = apply_overrides({}, [override])["optim"]["lr"]
    assert found == value
    assert type(found) is type(value)


def test_overrides_add_to_a_section_and_leave_the_recipe_alone() -> None:
    raw: dict[str, Any] = {**SMALL, "train": {"epochs": 2, "keep": 1}}
    out = apply_overrides(raw, ["train.epochs=3", "optim.lr=1e-3"])
    assert out["train"] == {"epochs": 3, "keep": 1}
    assert raw == {**SMALL, "train": {"epochs": 2, "keep": 1}}


@pytest.mark.parametrize(
    ("raw", "overrides", "key", "value"),
    [
        # `model: m` is short for `model: {path: m}`, and so for data and method.
        (SMALL, ["model.trust_remote_code=true"], "model", {"path": "m", "trust": True}),
        ({"model": {"path": "m", "trust": 1}}, ["model=n"], "model", {"path": "n", "trust": 1}),
        (SMALL, ["data.heldout=0.5"], "data", {"path": "d.jsonl", "heldout": 0.5}),
        ({"data": ["a", "b"]}, ["data.heldout=0"], "data", {"path": ["a", "b"], "heldout": 0}),
        ({"data": {"path": "a", "heldout": 0}}, ["data=b"], "data", {"path": "b", "heldout": 0}),
        ({"method": "dpo"}, ["method.beta=1"], "method", {"name": "dpo", "beta": 1}),
        # Another method has other parameters.
        ({"method": {"name": "dpo", "beta": 1}}, ["method=sft"], "method", "sft"),
    ],
)
def test_overrides_of_short_forms(
    raw: dict[str, Any], overrides: list[str], key: str, value: object
) -> None:
    found = apply_overrides(raw, overrides)[key]
    if isinstance(found, dict) and "trust_remote_code" in found:
        found = {"path": found["path"], "trust": found["trust_remote_code"]}
    assert found == value


@pytest.mark.parametrize("override", ["epochs", "=3", "a.b", "name=[", "when=2024-13-45"])
def test_what_is_no_override(override: str) -> None:
    with pytest.raises(ConfigError, match=r"not an override|not valid YAML"):
        apply_overrides({}, [override])


def test_numbers_with_an_exponent_in_a_file(tmp_path: Path) -> None:
    """PyYAML reads YAML 1.1, in which `1e-1` is text; a method's parameters are not coerced."""
    text = "model: m\ndata: d\nmethod: {name: dpo, beta: 1e-1}\noptim: {lr: 2e-4}\n"
    config = load_config(written(tmp_path, text))
    assert config.method["beta"] == 0.1
    assert config.optim.lr == 2e-4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "2e-4", "out": "ü: {x}\n#", "seed": 7},
        {"name": "null", "data": {"path": ["1", "yes"], "heldout_values": ["1e5", "no", "~"]}},
        {"method": {"name": "dpo", "beta": 1e-20}, "optim": {"lr": 1e-7, "clip": None}},
        {"data": {"path": "d", "system": "line\u2028two\nthree\ttab 😀"}},
        {"adapter": {"targets": ["q_proj", "v_proj"]}, "optim": {"betas": [0.5, 0.25]}},
    ],
)
def test_a_written_recipe_is_read_back_equal(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = built(**settings)
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_a_config_does_not_change() -> None:
    with pytest.raises(ValidationError):
        built().seed = 3  # type: ignore[misc]


def test_the_nearest_word() -> None:
    assert nearest("betta", ["beta", "gamma"]) == "; did you mean 'beta'?"
    assert nearest("zzz", ["b", "a"]) == "; valid: a, b"


def test_every_setting_says_what_it_is() -> None:
    def settings(section: Any, path: str) -> list[str]:
        silent = []
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                silent += settings(inner, f"{path}{name}.")
            elif not field.description and name != "method":
                silent.append(f"{path}{name}")
        return silent

    assert settings(RunConfig, "") == []


def test_recipes_are_read_without_the_heavy_libraries() -> None:
    code = (
        "import sys, palate.config as c; c.build_config({'model': 'm', 'data': 'd'}); "
        "print(sorted({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- lists of methods, stages, the best checkpoint ---------------------------------------


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("dpo", {"name": "dpo"}),
        (
            ["dpo", {"name": "nll", "weight": 0.2}],
            [{"name": "dpo"}, {"name": "nll", "weight": 0.2}],
        ),
    ],
)
def test_a_method_or_a_sum_of_them(written: object, kept: object) -> None:
    config = build_config({**SMALL, "method": written})
    assert config.method == kept
    assert yaml.safe_load(dump_config(config))["method"] == kept


def test_stages_by_their_methods_or_by_what_differs() -> None:
    stages = ["sft", {"method": "dpo", "train": {"epochs": 2}}, {"seed": 3}]
    config = build_config({**SMALL, "stages": stages})
    assert config.stages == [{"method": "sft"}, *stages[1:]]
    assert build_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"method": []}, "a method needs a name"),
        ({"method": ["dpo", {"weight": 2}]}, "a method needs a name"),
        ({"method": ["dpo", 3]}, "'method"),
        ({"stages": "sft"}, "'stages': Input should be a valid list"),
        ({"stages": [3]}, "'stages.1': Input should be a valid dictionary"),
        ({"train": {"patience": 2}}, "patience needs `best`: accuracy, loss or reward"),
        ({"train": {"patience": 0, "best": "loss"}}, "greater than or equal to 1"),
        ({"train": {"best": "loss", "eval_every": 0}}, "eval_every above 0"),
        ({"train": {"best": "margin"}}, "Input should be 'accuracy', 'loss' or 'reward'"),
    ],
)
def test_mistakes_in_lists_and_choices_are_named(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_config({**SMALL, **raw})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "override", "said"),
    [
        ({"method": [{"name": "dpo"}]}, "method.beta=0.2", "method is a list here.*give it whole"),
        ({"method": ["dpo", "nll"]}, "method.1.weight=2", "method is a list here.*method='"),
        ({"stages": ["sft"]}, "stages.0.seed=2", "stages is a list, .*give it whole"),
    ],
)
def test_no_part_of_a_list_is_overridden(raw: dict[str, Any], override: str, said: str) -> None:
    before = yaml.safe_dump(raw)
    with pytest.raises(ConfigError, match=said) as error:
        apply_overrides(raw, [override])
    assert "\n" not in str(error.value)
    assert yaml.safe_dump(raw) == before


def test_a_list_is_overridden_whole() -> None:
    method = "method=[{name: ipo}, {name: nll, weight: 0.2}]"
    config = build_config(apply_overrides({**SMALL, "method": ["dpo", "nll"]}, [method]))
    assert config.method == [{"name": "ipo"}, {"name": "nll", "weight": 0.2}]
    staged = {**SMALL, "stages": ["sft"]}
    config = build_config(apply_overrides(staged, ["stages=[sft, {method: dpo}]"]))
    assert config.stages == [{"method": "sft"}, {"method": "dpo"}]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("method=ipo", "'method' has no effect in stage 1, which sets method by itself"),
        ("method.beta=1", "'method.beta' has no effect in stage 1, which sets method by itself"),
        ("train.epochs=3", "'train.epochs' has no effect in stage 2, which sets train.epochs"),
        ("model=n", "'model' has no effect in stage 2, which sets model by itself"),
        ("model.path=n", "'model.path' has no effect in stage 2, which sets model.path"),
    ],
)
def test_an_override_that_a_stage_would_undo(override: str, said: str) -> None:
    raw = {**SMALL, "stages": ["sft", {"method": "dpo", "train": {"epochs": 2}, "model": "o"}]}
    with pytest.raises(ConfigError, match=re.escape(said)):
        apply_overrides(raw, [override])
    for fine in ("train.batch_size=2", "model.trust_remote_code=true", "optim.lr=1e-3", "seed=3"):
        assert apply_overrides(raw, [fine])["stages"] == raw["stages"]
    assert apply_overrides(raw, [override, "stages=[]"])["stages"] == []
    assert build_config(apply_overrides(raw, ["method=dpo", "stages=[]"])).stages == []


def test_a_parameter_of_the_default_method_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ndata: d\n", encoding="utf-8")
    assert load_config(path, ["method.beta=0.3"]).method == {"name": "dpo", "beta": 0.3}
