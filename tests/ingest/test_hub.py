"""The hub, without a network: its client's functions are replaced."""

import json
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from palate.ingest import IngestError, read_examples
from palate.ingest.hub import fetch, split_of


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose files are those named in `files`; `asked` records what was asked of it."""
    state = SimpleNamespace(files=[], asked=[])

    def dataset_info(repo, *, revision, timeout):
        state.asked.append((repo, revision))
        assert timeout < 60
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n) for n in state.files])

    def hf_hub_download(repo, name, *, repo_type, revision):
        assert repo_type == "dataset"
        path = tmp_path / name.replace("/", "_")
        row = {"prompt": name, "chosen": "a", "rejected": "b"}
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return state


def test_the_train_split_is_taken(hub):
    hub.files = ["README.md", "a/train.jsonl", "b/train.jsonl", "a/test.jsonl", ".gitattributes"]
    examples = list(read_examples("hub:acme/prefs"))
    assert hub.asked == [("acme/prefs", None)]
    assert [e.prompt[0].content for e in examples] == ["a/train.jsonl", "b/train.jsonl"]
    assert examples[0].provenance[0].source == "hub:acme/prefs/a/train.jsonl"


def test_revision_and_split(hub):
    hub.files = ["train.jsonl", "test.jsonl"]
    (found,) = fetch("hub:acme/prefs@v1.2:test")
    assert found[0] == "hub:acme/prefs/test.jsonl"
    assert hub.asked == [("acme/prefs", "v1.2")]


def test_the_only_split_is_taken_whatever_its_name(hub):
    hub.files = ["data.jsonl"]
    assert len(fetch("hub:acme/prefs")) == 1


@pytest.mark.parametrize(
    ("spec", "files", "said"),
    [
        ("hub:acme/prefs", ["train_a.jsonl", "train_b.jsonl"], "several splits.*train_a, train_b"),
        ("hub:acme/prefs:dev", ["train.jsonl"], "no split 'dev'.*train"),
        ("hub:acme/prefs", ["README.md"], "holds no Parquet"),
        ("hub:prefs", [], "not of the form hub:OWNER/NAME"),
    ],
)
def test_what_is_not_clear_is_said(hub, spec, files, said):
    hub.files = files
    with pytest.raises(IngestError, match=said):
        fetch(spec)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/test_prefs-00000-of-00001.parquet", "test_prefs"),
        ("default/train/0000.parquet", "train"),
        ("harmless-base/train.jsonl.gz", "train"),
    ],
)
def test_split_of(name, split):
    assert split_of(name) == split


def test_offline_is_one_line(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OfflineModeIsEnabled("Cannot reach https://…\nOffline mode is enabled.")

    monkeypatch.setattr(huggingface_hub, "dataset_info", offline)
    with pytest.raises(IngestError) as caught:
        read_examples("hub:acme/prefs")
    assert "\n" not in str(caught.value)
    assert "cannot get the data set acme/prefs from the hub" in str(caught.value)
