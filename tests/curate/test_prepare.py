"""From a data section to examples, with every drop in the funnel."""

import json
import subprocess
import sys

import pytest

from palate.config import DataConfig
from palate.curate import Funnel, prepare
from palate.ingest import IngestError


def _log(prompt, answer, feedback, **metadata):
    return {
        "messages": [{"role": "user", "content": prompt}],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}],
        "feedback": feedback,
        "metadata": metadata,
    }


@pytest.fixture
def log(tmp_path):
    """22 rows that parse: 10 prompts with a contrast and one without; and two that do not."""
    rows = [_log(f"q{i}", f"good {i}", "up", t=f"{i % 5}") for i in range(10)]
    rows += [_log(f"q{i}", f"bad {i}", "down", t=f"{i % 5}") for i in range(10)]
    rows += [_log("q10", "one", "up", t="0"), _log("q10", "two", "up", t="0")]
    rows += [_log("q11", "", "up"), _log("q11", "x", "meh")]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_whole_way(log):
    prepared = prepare(DataConfig(path=log, heldout=0.2), seed=0)
    assert prepared.funnel.line() == ("24 rows read → 11 prompts → 10 pairs → 8 train + 2 held-out")
    assert prepared.funnel.dropped == {"empty-answer": 1, "no-contrast": 1, "unknown-feedback": 1}
    assert [(stage.name, stage.dropped) for stage in prepared.funnel.stages] == [
        ("read", {}),
        ("group", {"empty-answer": 1, "unknown-feedback": 1}),
        ("pair", {"no-contrast": 1}),
        ("filter", {}),
        ("train", {}),
        ("held-out", {}),
    ]
    assert sorted((r.line, r.reason) for r in prepared.rejects) == [
        (21, "no-contrast"),
        (23, "empty-answer"),
        (24, "unknown-feedback"),
    ]
    for pair in prepared.train + prepared.heldout:
        assert pair.chosen.text.removeprefix("good") == pair.rejected.text.removeprefix("bad")


def test_demonstrations_say_what_they_are_made_of(log):
    prepared = prepare(DataConfig(path=log, heldout=0), seed=0, shape="demonstration")
    # 10 + 2 thumbs up; 10 thumbs down and the two broken rows are left out.
    assert len(prepared.train) == 12
    assert prepared.funnel.dropped == {"thumbs-down": 10, "empty-answer": 1, "unknown-feedback": 1}
    (said,) = [text for name, _, _, text in prepared.funnel.rows() if name == "demonstrate"]
    assert "12 from answers with a thumb up" in said


def test_the_check_of_the_caller(log):
    def check(example):
        return ("too-long", "9 tokens") if example.prompt[0].content == "q3" else None

    prepared = prepare(DataConfig(path=log, heldout=0), seed=0, check=check)
    assert len(prepared.train) == 9
    assert prepared.funnel.dropped["too-long"] == 1


def test_at_most_so_many_pairs_by_seed(log):
    def drawn(seed):
        config = DataConfig(path=log, heldout=0, max_pairs=4)
        return [example.id for example in prepare(config, seed).train]

    assert len(drawn(0)) == 4
    assert drawn(0) == drawn(0)
    assert {tuple(drawn(seed)) for seed in range(5)} != {tuple(drawn(0))}
    assert (
        prepare(DataConfig(path=log, heldout=0, max_pairs=4), 0).funnel.dropped["over-max-pairs"]
        == 6
    )


def test_the_system_prompt_is_added_only_where_there_is_none(tmp_path):
    system = {"role": "system", "content": "Mine."}
    rows = [
        _log("a", "x", "up"),
        _log("a", "y", "down"),
        _log("b", "x", "up"),
        _log("b", "y", "down"),
    ]
    for row in rows[2:]:
        row["messages"].insert(0, system)
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = prepare(DataConfig(path=str(path), heldout=0, system="Ours."), 0)
    assert [example.prompt[0].content for example in prepared.train] == ["Ours.", "Mine."]
    assert [len(example.prompt) for example in prepared.train] == [2, 2]


def test_split_by_tag(log):
    config = DataConfig(path=log, split_by="tag:t", heldout_values=["2"])
    prepared = prepare(config, 0)
    assert {example.tags["t"] for example in prepared.heldout} == {"2"}
    assert len(prepared.heldout) == 2


def test_nothing_left_is_one_line_with_the_counts(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [_log("a", "x", "up"), _log("b", "y", "up"), _log("c", "", "up")]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    with pytest.raises(IngestError) as caught:
        prepare(DataConfig(path=str(path)), 0)
    assert str(caught.value) == (
        f"no usable pair in {path}: 3 rows read; no-contrast 2, empty-answer 1; thumbs are what "
        "method=kto learns from, and sft from the good ones; for pairs a prompt needs a good "
        "answer and a bad one"
    )


def test_progress(log):
    seen = []
    prepare(DataConfig(path=log), 0, progress=lambda stage, count: seen.append((stage, count)))
    assert seen == [("read", 22)]


def test_the_funnel_comes_back_from_json(log):
    funnel = prepare(DataConfig(path=log), 0).funnel
    again = Funnel.from_dict(json.loads(json.dumps(funnel.to_dict())))
    assert again == funnel
    assert again.line() == funnel.line()


def test_the_data_rooms_never_import_torch():
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
        "import palate.ingest, palate.curate, palate.store"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def _pairs(path, numbers, **more):
    rows = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in numbers]
    path.write_text("".join(f"{json.dumps({**row, **more})}\n" for row in rows), encoding="utf-8")
    return str(path)


def _words(prepared, stage):
    return next(text for name, _, _, text in prepared.funnel.rows() if name == stage)


def test_thumbs_from_thumbs(log):
    prepared = prepare(DataConfig(path=log, heldout=0.2), seed=0, shape="labelled")
    found = prepared.train + prepared.heldout
    labels = [e.completions[0].label for e in found]
    assert (labels.count(True), labels.count(False)) == (12, 10)
    assert "22 from thumbs" in _words(prepared, "label")
    assert "22 answers" in prepared.funnel.line()
    assert not {e.prompt_key for e in prepared.train} & {e.prompt_key for e in prepared.heldout}


def test_thumbs_from_pairs_are_said_aloud(tmp_path):
    data = _pairs(tmp_path / "pairs.jsonl", range(4))
    prepared = prepare(DataConfig(path=data, heldout=0), seed=0, shape="labelled")
    assert [e.completions[0].label for e in prepared.train] == [True, False] * 4
    assert "8 from pairs" in _words(prepared, "label")


def test_a_thumb_that_comes_twice_is_one(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "q", "chosen": "A", "rejected": bad} for bad in ("B", "C")]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = prepare(DataConfig(path=str(path), heldout=0), seed=0, shape="labelled")
    assert [e.completions[0].text for e in prepared.train] == ["A", "B", "C"]
    assert prepared.funnel.dropped == {"duplicate": 1}


def test_texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"Document {i}.", "lang": "en"} for i in (0, 1, 2, 3, 3)]
    rows.append({"prompt": "q", "completion": "a"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    prepared = prepare(DataConfig(path=str(path), heldout=0.25), seed=0, shape="text")
    found = prepared.train + prepared.heldout
    assert sorted(e.completions[0].text for e in found) == [f"Document {i}." for i in range(4)]
    assert len(prepared.heldout) == 1
    assert all(e.shape == "text" and e.tags == {"lang": "en"} for e in found)
    assert prepared.funnel.dropped["duplicate"] == 1


def test_a_row_with_a_prompt_among_texts_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    _pairs(tmp_path / "b.jsonl", [1])
    prepared = prepare(DataConfig(path=str(tmp_path), heldout=0), seed=0, shape="text")
    assert len(prepared.train) == 2
    assert prepared.funnel.dropped == {"not-text": 1}
    others = prepare(DataConfig(path=str(tmp_path), heldout=0), seed=0)
    assert len(others.train) == 1
    assert others.funnel.dropped == {"no-prompt": 2}


def test_prompts_whose_side_is_known_stay_there(tmp_path):
    data = _pairs(tmp_path / "pairs.jsonl", range(10))
    config = DataConfig(path=data, heldout=0.2)
    free = prepare(config, seed=0)
    keys = {e.prompt[0].content: e.prompt_key for e in free.train + free.heldout}
    drawn = {e.prompt[0].content for e in free.heldout}
    assert len(drawn) == 2
    to_train, to_hold = sorted(drawn)[0], sorted(set(keys) - drawn)[:2]
    known = {keys[to_train]: False, **{keys[name]: True for name in to_hold}, "elsewhere": True}
    for shape in ("pair", "labelled", "demonstration"):
        prepared = prepare(config, seed=0, shape=shape, known=known)
        held = {e.prompt[0].content for e in prepared.heldout}
        assert held == (drawn - {to_train}) | set(to_hold)


CURES = {
    "pair": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "labelled": {"prompt": "q", "completion": "a", "label": True},
    "demonstration": {"prompt": "q", "completion": "a"},
    "text": {"text": "a"},
}


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        ("pair", "labelled", "thumbs are what method=kto learns from.*a good answer and a bad one"),
        ("pair", "demonstration", "method=sft learns from; for pairs, add a second answer"),
        ("pair", "text", "plain text is what method=pretrain learns from"),
        ("labelled", "demonstration", "method=sft learns from"),
        ("labelled", "text", "method=pretrain"),
        ("demonstration", "text", "method=pretrain"),
        ("text", "pair", "pairs serve every method with two answers .method=dpo., kto"),
        ("text", "demonstration", "method=sft"),
    ],
)
def test_data_of_another_shape_is_told_what_it_is_good_for(tmp_path, wanted, there, said):
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(CURES[there])}\n", encoding="utf-8")
    with pytest.raises(IngestError, match=said) as caught:
        prepare(DataConfig(path=str(path)), seed=0, shape=wanted)
    assert "\n" not in str(caught.value)
    assert f"no usable {wanted} in " in str(caught.value)
    assert caught.value.rejects


def test_no_cure_is_offered_for_data_of_the_right_shape(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(CURES['pair'])}\n", encoding="utf-8")
    with pytest.raises(IngestError) as caught:
        prepare(DataConfig(path=str(path)), seed=0, check=lambda _: ("too-long", "9 tokens"))
    assert str(caught.value).endswith("too-long 1")
