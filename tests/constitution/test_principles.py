from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from palate.cli.constitution import named
from palate.config import ConfigError
from palate.constitution.principles import DEFAULT, Principle, draw, load_constitution


def a_principle(name: str, weight: float = 1.0) -> Principle:
    return Principle(id=name, critique="c", revise="r", compare="q", weight=weight)


def test_ours_are_whole() -> None:
    default, desk = named(DEFAULT), named("support-desk")
    assert 12 <= len(default.principles) <= 16
    assert len(desk.principles) == 12
    tags = {tag for principle in default.principles for tag in principle.tags}
    assert {"helpful", "honest", "harmless", "privacy", "no-over-refusal", "style"} <= tags
    for one in (default, desk):
        assert one.examples
        for principle in one.principles:
            assert principle.compare.endswith("?")
            assert principle.critique.endswith(".")
            assert principle.revise.endswith(".")


def test_the_desks_examples_keep_its_own_rules() -> None:
    from palate.cli.training import support_desk
    from palate.judge.rules import load_rule
    from palate.records import Message

    rule = load_rule(f"{support_desk() / 'rules.py'}:house_rules")
    for shot in named("support-desk").examples:
        prompt = [Message("user", shot.prompt)]
        assert rule(prompt, shot.revision).failed == ()
        assert not rule(prompt, shot.answer).passed


PRINCIPLE = {"id": "a", "critique": "c", "revise": "r", "compare": "q"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"name": "n", "principles": []}, "'principles'"),
        ({"name": "n", "principels": [PRINCIPLE]}, "did you mean 'principles'?"),
        (
            {"name": "n", "principles": [PRINCIPLE, {**PRINCIPLE, "id": "b", "critque": "x"}]},
            "unknown key 'principles.2.critque'; did you mean 'critique'?",
        ),
        ({"name": "n", "principles": [PRINCIPLE, PRINCIPLE]}, "two principles are called 'a'"),
        (
            {"name": "n", "principles": [{**PRINCIPLE, "weight": 0}]},
            "'principles.1.weight': Input should be greater than 0",
        ),
        ({"name": "n", "principles": [{**PRINCIPLE, "compare": "  "}]}, "say something"),
        ({"name": "n", "principles": [{"id": "a"}]}, "'principles.1.critique' is missing"),
        ([1], "must be a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, raw: object, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError) as caught:
        load_constitution(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no constitution"):
        load_constitution(tmp_path / "absent.yaml")
    (tmp_path / "c.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML at line 1"):
        load_constitution(tmp_path / "c.yaml")


def test_without_examples_of_its_own_a_file_borrows_ours(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"name": "n", "principles": [PRINCIPLE]}))
    assert load_constitution(path).examples == named(DEFAULT).examples
    path.write_text(yaml.safe_dump({"name": "n", "principles": [PRINCIPLE], "examples": []}))
    assert load_constitution(path).examples == ()


def test_a_part_by_id_or_tag() -> None:
    ours = named(DEFAULT)
    assert {p.id for p in ours.only(["honest"]).principles} == {
        "truthful",
        "knows-its-limits",
        "no-flattery",
    }
    assert [p.id for p in ours.only(["brief", "privacy"]).principles] == ["privacy", "brief"]
    assert ours.only([]) is ours
    with pytest.raises(ConfigError, match="did you mean 'privacy'"):
        ours.only(["privcy"])


def test_a_draw_is_a_permutation_before_anything_comes_again() -> None:
    principles = [a_principle(name) for name in "abcd"]
    drawn = [p.id for p in draw(principles, 10, seed=0, prompt="p", use="critique")]
    assert sorted(drawn[:4]) == sorted(drawn[4:8]) == list("abcd")
    assert len(set(drawn[8:])) == 2
    assert drawn[:4] != drawn[4:8], "each time in an order of its own"


def test_a_draw_depends_on_seed_prompt_and_use_alone() -> None:
    principles = [a_principle(name) for name in "abcdefgh"]

    def ids(seed: int, prompt: str, use: str, reverse: bool = False) -> list[str]:
        given = principles[::-1] if reverse else principles
        return [p.id for p in draw(given, 8, seed=seed, prompt=prompt, use=use)]

    first = ids(0, "p", "critique")
    assert ids(0, "p", "critique", reverse=True) == first
    assert draw(principles, 3, seed=0, prompt="p", use="critique") == [
        next(p for p in principles if p.id == name) for name in first[:3]
    ]
    assert ids(1, "p", "critique") != first
    assert ids(0, "q", "critique") != first
    assert ids(0, "p", "prefer") != first


def test_twice_the_weight_is_drawn_first_twice_as_often() -> None:
    principles = [a_principle("a", 2.0), a_principle("b"), a_principle("c")]
    first = Counter(draw(principles, 1, seed=0, prompt=str(n), use="x")[0].id for n in range(4000))
    # P(a first) = 2 / (2 + 1 + 1); four standard errors of a share of 4000 are .032
    assert abs(first["a"] / 4000 - 0.5) < 0.032
    assert abs(first["b"] / 4000 - 0.25) < 0.028
