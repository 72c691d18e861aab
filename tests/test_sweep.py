"""The grid that the words of the command line span, names, and what a folder remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from palate.config import ConfigError, load_config
from palate.sweep import STATE, plan_sweep, read_words, split_list

BODY = {
    "name": "desk",
    "out": "runs",
    "model": "some/model",
    "data": "pairs.jsonl",
    "method": {"name": "dpo", "beta": 0.1},
}


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(BODY))
    return path


def names(*words: str) -> list[str]:
    return [cell.name for cell in plan_sweep("recipe.yaml", words).cells]


def save(*words: str) -> None:
    plan_sweep("recipe.yaml", words).save()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("0.05, 0.1", ["0.05", "0.1"]),
        ("one", ["one"]),
        ("", [""]),
        ("1,", ["1", ""]),
        (",", ["", ""]),
        ("[a,b]", ["[a,b]"]),
        ("[a,b],[c]", ["[a,b]", "[c]"]),
        ("[[a,b],c],d", ["[[a,b],c]", "d"]),
        ("{name: dpo, beta: 0.2},ipo", ["{name: dpo, beta: 0.2}", "ipo"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("'[',x", ["'['", "x"]),
        ("[']',x],y", ["[']',x]", "y"]),
        ("a]b,c", ["a]b", "c"]),
    ],
)
def test_a_comma_makes_a_list_only_outside_brackets_and_quotes(
    text: str, values: list[str]
) -> None:
    assert split_list(text) == values


def test_a_yaml_list_is_one_value_and_two_of_them_are_an_axis() -> None:
    fixed, axes = read_words(["data=[a.jsonl,b.jsonl]", "adapter.targets=[q_proj],[q_proj,v_proj]"])
    assert fixed == ["data=[a.jsonl,b.jsonl]"]
    assert [(axis.key, axis.values) for axis in axes] == [
        ("adapter.targets", ("[q_proj]", "[q_proj,v_proj]"))
    ]
    sweep = plan_sweep(
        "recipe.yaml", ["data=[a.jsonl,b.jsonl]", "adapter.targets=[q_proj],[q_proj,v_proj]"]
    )
    assert [cell.config.adapter.targets for cell in sweep.cells] == [
        ["q_proj"],
        ["q_proj", "v_proj"],
    ]
    assert all(cell.config.data.path == ["a.jsonl", "b.jsonl"] for cell in sweep.cells)


def test_the_grid_its_names_and_its_folder() -> None:
    sweep = plan_sweep("recipe.yaml", ["method.beta=0.05,0.1", "seed=1,2", "train.epochs=2"])
    assert sweep.folder == Path("runs/desk-sweep")
    assert [cell.name for cell in sweep.cells] == [
        "beta=0.05,seed=1",
        "beta=0.05,seed=2",
        "beta=0.1,seed=1",
        "beta=0.1,seed=2",
    ]
    last = sweep.cells[-1]
    assert last.folder == Path("runs/desk-sweep/beta=0.1,seed=2")
    assert last.settings == {"method.beta": "0.1", "seed": "2"}
    assert (last.config.method["beta"], last.config.seed, last.config.train.epochs) == (0.1, 2, 2.0)
    assert sweep.keys == ("method.beta", "seed")


def test_methods_as_an_axis_and_a_section_before_its_keys() -> None:
    assert names("method.name=dpo,ipo") == ["name=dpo", "name=ipo"]
    sweep = plan_sweep("recipe.yaml", ["method.beta=0.2,0.3", "method=dpo,ipo"])
    assert [(c.config.method["name"], c.config.method["beta"]) for c in sweep.cells] == [
        ("dpo", 0.2),
        ("ipo", 0.2),
        ("dpo", 0.3),
        ("ipo", 0.3),
    ]


def test_keys_that_end_alike_are_named_whole() -> None:
    assert names("method.name=dpo,ipo", "optim.name=adamw,adamw8bit")[0] == (
        "method.name=dpo,optim.name=adamw"
    )


def test_names_are_one_folder_each_whatever_the_values() -> None:
    found = names("data.system=../a,..\\a,a:b,'[a]',' '", "seed=1,2")
    assert len(set(found)) == 10
    for name in found:
        assert not set(name) & set('/\\:*?"<>|[]{} ')
        assert Path(name).name == name
    (long, _) = names("data.system=" + "x" * 300 + "," + "x" * 301)
    assert len(long) <= 120


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], r"nothing to sweep: .*method.beta=0.05,0.1"),
        ([], r"nothing to sweep"),
        (["seed=1,", "method.beta=1,2"], r"'seed=1,' has an empty value"),
        (["seed=,"], r"'seed=,' has an empty value"),
        (["seed"], r"'seed' is not a setting"),
        (["=1,2"], r"is not a setting"),
        (["seed=1,2", "seed=3"], r"'seed' is there twice"),
        (["name=a,b"], r"'name' cannot be swept"),
        (["resume=never,auto"], r"'resume' cannot be swept"),
        (["resume=never", "seed=1,2"], r"always goes on where it stopped"),
        (["method.betta=1,2", "trian.epochs=1"], r"unknown key 'trian'; did you mean 'train'"),
        (["optim.rate=1,2"], r"unknown key 'optim.rate'"),
        (["seed=1,-1"], r"'seed': .*greater than or equal to 0"),
        (["seed=1,1.0"], r"one and the same run: seed=1"),
        (["method.beta=0.1,0.10"], r"one and the same run"),
        (["seed=[,2"], r"not valid YAML|nothing to sweep"),
    ],
)
def test_mistakes(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_sweep("recipe.yaml", words)


def test_complete_is_results_json() -> None:
    cell = plan_sweep("recipe.yaml", ["seed=1,2"]).cells[0]
    assert not cell.complete
    assert cell.results() is None
    cell.folder.mkdir(parents=True)
    (cell.folder / "results.json").write_text('{"heldout": null}')
    assert cell.complete
    assert cell.results() == {"heldout": None}


def test_another_grid_adds_cells_to_the_folder() -> None:
    save("method.beta=0.1,0.2", "seed=1,2")
    more = plan_sweep("recipe.yaml", ["method.beta=0.2,0.3", "seed=1,2"])
    assert [cell.name for cell in more.cells] == [
        "beta=0.2,seed=1",
        "beta=0.2,seed=2",
        "beta=0.3,seed=1",
        "beta=0.3,seed=2",
    ]
    assert [cell.name for cell in more.known][:2] == ["beta=0.1,seed=1", "beta=0.1,seed=2"]
    assert len(more.known) == 6
    more.save()
    state = json.loads(Path("runs/desk-sweep", STATE).read_text())
    assert state["axes"] == {"method.beta": ["0.2", "0.3"], "seed": ["1", "2"]}
    assert len(state["cells"]) == 6


def test_a_new_axis_keeps_the_cells_that_lie_on_it() -> None:
    """The recipe's seed is 0: the old cells are those with seed 0, in their old folders."""
    save("method.beta=0.1,0.2")
    more = plan_sweep("recipe.yaml", ["method.beta=0.1,0.2", "seed=0,1"])
    assert [cell.name for cell in more.cells] == [
        "beta=0.1",
        "beta=0.2",
        "beta=0.1,seed=1",
        "beta=0.2,seed=1",
    ]
    assert [cell.settings["seed"] for cell in more.known] == ["0", "0", "1", "1"]


def test_an_axis_that_is_gone_still_tells_old_cells_apart() -> None:
    save("method=dpo,ipo", "seed=0,1")
    fewer = plan_sweep("recipe.yaml", ["seed=0,1,2", "method=dpo"])
    assert [c.name for c in fewer.cells] == ["method=dpo,seed=0", "method=dpo,seed=1", "seed=2"]
    assert fewer.known[-1].settings == {"method": "dpo", "seed": "2"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "other.jsonl"}, r"sweep of another recipe \(data.path\)"),
        ({"train": {"epochs": 3}}, r"sweep of another recipe \(train.epochs\)"),
        ({"method": {"name": "ipo"}}, r"another recipe \(method.name\)"),
    ],
)
def test_a_changed_recipe_is_refused(recipe: Path, change: dict[str, object], said: str) -> None:
    save("method.beta=0.1,0.2")
    recipe.write_text(yaml.safe_dump(BODY | change))
    with pytest.raises(ConfigError, match=said) as error:
        plan_sweep("recipe.yaml", ["method.beta=0.1,0.2,0.3"])
    assert "\n" not in str(error.value)
    assert plan_sweep("recipe.yaml", ["method.beta=0.1,0.2", "name=new"]).folder.name == "new-sweep"


def test_a_recipe_that_differs_below_an_axis_is_refused_too(recipe: Path) -> None:
    """`method` is an axis, so all of `method.*` may vary; but not under the same name."""
    recipe.write_text(yaml.safe_dump({**BODY, "method": "dpo"}))
    save("method=dpo,ipo")
    with pytest.raises(ConfigError, match=r"method=dpo was run with other settings"):
        plan_sweep("recipe.yaml", ["method=dpo,ipo", "method.beta=0.7"])


def test_a_setting_that_is_on_no_axis_counts_as_the_recipe(recipe: Path) -> None:
    save("seed=1,2")
    with pytest.raises(ConfigError, match=r"another recipe \(train.epochs\)"):
        plan_sweep("recipe.yaml", ["seed=1,2", "train.epochs=2"])
    assert load_config(recipe).train.epochs == 1.0


def test_a_folder_that_was_moved_is_still_its_sweep() -> None:
    save("seed=1,2")
    Path("runs").rename("elsewhere")
    sweep = plan_sweep("recipe.yaml", ["seed=1,2,3", "out=elsewhere"])
    assert [cell.folder.parent for cell in sweep.known] == [Path("elsewhere/desk-sweep")] * 3


def test_a_damaged_state_is_one_line() -> None:
    save("seed=1,2")
    Path("runs/desk-sweep", STATE).write_text("{")
    with pytest.raises(ConfigError, match=r"sweep.json cannot be read .*name=NAME"):
        plan_sweep("recipe.yaml", ["seed=1,2"])
