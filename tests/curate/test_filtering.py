"""The filters of a recipe: their order, their stages, and the settings that are refused."""

import json
import sys

import pytest

from palate.config import ConfigError, DataConfig, FilterConfig, apply_overrides, build_config
from palate.curate import prepare
from palate.curate.filtering import reject_cleaner, run_filters
from palate.curate.funnel import Funnel
from palate.ingest import IngestError
from palate.records import Completion, Example, Message, Provenance, Verdict

FRENCH = "Le colis a quitté notre maison mardi et devrait arriver chez vous avant le week-end."


def _pair(line, prompt, chosen="good", rejected="bad", finish=None):
    answers = (
        Completion((Message("assistant", chosen),), finish_reason=finish),
        Completion((Message("assistant", rejected),)),
    )
    return Example(
        (Message("user", prompt),),
        answers,
        verdict=Verdict(0, 1),
        provenance=(Provenance("log", line),),
    )


def _run(examples, check=None, **settings):
    rejects, funnel = [], Funnel()
    kept = run_filters(examples, FilterConfig(**settings), rejects.append, funnel, "pairs", check)
    stages = [(s.name, s.count, s.dropped, s.note) for s in funnel.stages]
    return [e.provenance[0].line for e in kept], stages, rejects


def test_by_default_only_what_is_broken_or_repeated_goes():
    rows = [
        _pair(1, "one"),
        _pair(2, "two", chosen="HTTP 500"),
        _pair(3, "three", finish="length"),
        _pair(4, "one"),
        _pair(5, "I am anna@example.org", chosen="I'm sorry, but I can't help with that."),
        _pair(6, FRENCH),
    ]
    kept, stages, _ = _run(rows)
    assert kept == [1, 5, 6]
    assert stages == [
        ("provider", 5, {"provider-error": 1}, ""),
        ("filter", 3, {"truncated": 1, "duplicate": 1}, ""),
    ]


def test_the_middle_stage_is_always_there():
    assert _run([_pair(1, "one")]) == ([1], [("filter", 1, {}, "")], [])


def test_the_defaults_need_no_package_and_no_time(monkeypatch):
    for name in ("presidio_analyzer", "spacy", "py3langid", "detect_secrets", "rensa", "duckdb"):
        monkeypatch.setitem(sys.modules, name, None)
    assert _run([_pair(1, "one")])[0] == [1]


def test_keeping_what_is_dropped_by_default():
    rows = [
        _pair(1, "one", chosen="HTTP 500"),
        _pair(2, "two", finish="length"),
        _pair(3, "three", finish="content_filter"),
    ]
    kept, _, _ = _run(rows, provider_errors="keep", truncated="keep")
    assert kept == [1, 2, 3]
    assert _run(rows, provider_errors="keep")[0] == [1, 3]
    assert _run(rows, truncated="keep")[0] == [2]


def test_every_filter_has_its_stage(tmp_path):
    evaluation = tmp_path / "prompts.txt"
    evaluation.write_text("Where is Hull?\n", encoding="utf-8")
    long = " ".join(f"word{i}" for i in range(60))
    rows = [
        _pair(1, "one", chosen="502 Bad Gateway"),
        _pair(2, "two", chosen="I cannot help with that."),
        _pair(3, FRENCH),
        _pair(4, "I am anna@example.org"),
        _pair(5, "five", chosen="same", rejected="same"),
        _pair(6, "where is hull"),
        _pair(7, long),
        _pair(8, f"{long} too"),
        _pair(9, "nine"),
    ]
    kept, stages, rejects = _run(
        rows,
        refusals="drop",
        languages=["en"],
        personal="drop",
        contamination=[str(evaluation)],
        near_duplicates="drop",
    )
    assert 9 in kept
    assert len(kept) == 2
    assert [(name, dropped) for name, _, dropped, _ in stages] == [
        ("provider", {"provider-error": 1}),
        ("refusals", {"refusal": 1}),
        ("language", {"other-language": 1}),
        ("personal", {"personal-data": 1}),
        ("filter", {"equal-answers": 1}),
        ("contamination", {"contaminated": 1}),
        ("near-duplicates", {"near-duplicate": 1}),
    ]
    assert [count for _, count, _, _ in stages] == [8, 7, 6, 5, 4, 3, 2]
    assert len(rejects) == 7


def test_redaction_comes_before_copies_are_looked_for():
    rows = [_pair(i, f"I am {name}@example.org") for i, name in enumerate(["anna", "bob"], 1)]
    kept, stages, rejects = _run(rows, personal="redact")
    assert kept == [1]
    assert stages == [
        ("personal", 2, {}, "replaced 2 EMAIL_ADDRESS in 2 of 2"),
        ("filter", 1, {"duplicate": 1}, ""),
    ]
    assert rejects[0].excerpt == "I am <EMAIL_ADDRESS>"


def test_excerpts_are_redacted_wherever_a_row_was_dropped():
    rows = [_pair(1, "I am anna@example.org", chosen="HTTP 500")]
    for mode, said in (("redact", "<EMAIL_ADDRESS>"), ("drop", "<EMAIL_ADDRESS>")):
        assert _run(rows, personal=mode)[2][0].excerpt == f"I am {said}"
    assert _run(rows, personal="report")[2][0].excerpt == "I am anna@example.org"


def test_the_cleaner_alone():
    (found,) = _run([_pair(1, "I am anna@example.org", chosen="HTTP 500")])[2]
    assert reject_cleaner(FilterConfig())(found) == found
    assert reject_cleaner(FilterConfig(personal="drop"))(found).excerpt == "I am <EMAIL_ADDRESS>"


def test_report_is_a_note():
    kept, stages, _ = _run([_pair(1, "I am anna@example.org"), _pair(2, "hi")], personal="report")
    assert kept == [1, 2]
    assert stages[0] == ("personal", 2, {}, "found 1 EMAIL_ADDRESS in 1 of 2")
    assert _run([_pair(2, "hi")], personal="report")[1] == [("filter", 1, {}, "")]


def test_the_callers_check_is_asked_before_the_slow_filters():
    long = " ".join(f"word{i}" for i in range(60))
    rows = [_pair(1, long), _pair(2, f"{long} too")]

    def check(example):
        return ("too-long", "61 words") if example.provenance[0].line == 2 else None

    kept, stages, _ = _run(rows, check=check, near_duplicates="drop")
    assert kept == [1]
    assert stages == [("filter", 1, {"too-long": 1}, "")]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"languages": ["english"]}, ValueError, "unknown code 'english'"),
        ({"personal": "report", "personal_kinds": ["MAIL"]}, ValueError, "unknown kind 'MAIL'"),
        ({"contamination": ["nowhere.jsonl"]}, IngestError, "nowhere.jsonl"),
    ],
)
def test_wrong_settings_stop_before_anything_is_dropped(settings, error, said):
    rejects = []
    with pytest.raises(error, match=said):
        run_filters(
            [_pair(1, "one", chosen="HTTP 500")],
            FilterConfig(**settings),
            rejects.append,
            Funnel(),
            "pairs",
        )
    assert rejects == []


def test_norwegian_is_no_refusal():
    """YAML reads the code `no` as false."""
    raw = apply_overrides({"model": "m", "data": "d"}, ["data.filters.languages=[no, en]"])
    assert build_config(raw).data.filters.languages == ["no", "en"]


def test_the_counts_reach_the_funnel_of_prepared_data(tmp_path):
    path = tmp_path / "pairs.jsonl"
    long = " ".join(f"word{i}" for i in range(60))
    prompts = [long, f"{long} too", "I am anna@example.org", *(f"q{i}" for i in range(9))]
    rows = [{"prompt": prompt, "chosen": "good", "rejected": "bad"} for prompt in prompts]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    filters = {"personal": "redact", "near_duplicates": "drop"}
    config = DataConfig.model_validate({"path": str(path), "heldout": 0.2, "filters": filters})
    prepared = prepare(config, seed=0)
    stages = {stage.name: (stage.count, stage.dropped) for stage in prepared.funnel.stages}
    assert stages["personal"] == (12, {})
    assert stages["filter"] == (12, {})
    assert stages["near-duplicates"] == (11, {"near-duplicate": 1})
    assert stages["train"][0] + stages["held-out"][0] == 11
    found = [example.prompt[0].content for example in prepared.train + prepared.heldout]
    assert "I am <EMAIL_ADDRESS>" in found


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (
            {"personal": "redcat"},
            "'data.filters.personal': Input should be 'keep', 'report', 'drop'",
        ),
        ({"persona": "drop"}, "unknown key 'data.filters.persona'; did you mean 'personal'"),
        ({"similarity": 0.2}, "'data.filters.similarity': .* greater than or equal to 0.5"),
        ({"languages": []}, "'data.filters.languages'"),
    ],
)
def test_misspelt_settings_are_one_line(filters, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build_config({"model": "m", "data": {"path": "d", "filters": filters}})
    assert "\n" not in str(caught.value)


def test_the_error_that_a_reject_quotes_is_redacted_too():
    error = "Error code: 401 - no account of anna@example.org"
    long = f"Error code: 401 - {'x' * 40} anna.with.a.long.name@example.org is unknown"
    rows = [_pair(1, "one", chosen=error), _pair(2, "two", chosen=long)]
    _, _, rejects = _run(rows, personal="redact")
    said = "an answer is the error 'Error code: 401 - "
    assert rejects[0].detail == f"{said}no account of <EMAIL_ADDRESS>'"
    assert rejects[1].detail == f"{said}{'x' * 40} …'"  # 80 letters end inside the address
    _, _, rejects = _run(rows)
    assert rejects[0].detail == f"an answer is the error '{error}'"
