"""Data sets of the Hugging Face hub: `hub:OWNER/NAME`, with `@REVISION` and `:SPLIT` if wanted."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from palate.ingest.containers import holding_rows
from palate.ingest.errors import IngestError

PREFIX = "hub:"
TIMEOUT = 15.0  # seconds
_SPEC = re.compile(
    r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.-]+))?"
)
_SHARD = re.compile(r"-\d+-of-\d+$")


def fetch(spec: str) -> list[tuple[str, Path]]:
    """(name for provenance, local path) of each data file of the set's split.

    Without a split the one whose name begins with `train` is taken, or the only one there is.
    Raises `IngestError` if the name is malformed, the hub cannot be reached, or the split is
    not clear.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise IngestError(f"'{spec}' is not of the form hub:OWNER/NAME[@REVISION][:SPLIT]")
    repo, revision, wanted = match["repo"], match["revision"], match["split"]
    listed = [Path(name) for name in _list(repo, revision) if _is_data(name)]
    names = [path.as_posix() for path in holding_rows(listed)]
    splits: dict[str, list[str]] = {}
    for name in sorted(names):
        splits.setdefault(split_of(name), []).append(name)
    if not splits:
        raise IngestError(
            f"the hub data set {repo} holds no Parquet, JSON, JSONL, CSV or text file"
        )
    split = _choose(repo, wanted, list(splits))
    return [(f"{PREFIX}{repo}/{name}", _download(repo, name, revision)) for name in splits[split]]


def split_of(name: str) -> str:
    """The split a file belongs to: its name without shard number, or its folder's."""
    path = PurePosixPath(name)
    stem = _SHARD.sub("", path.name.split(".")[0])
    return path.parent.name if stem.isdigit() and path.parent.name else stem


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name not in {"dataset_infos.json", "README.md"} and name[0] != "."


def _choose(repo: str, wanted: str | None, splits: list[str]) -> str:
    if wanted is not None:
        candidates = [split for split in splits if split == wanted]
    else:
        candidates = [split for split in splits if split.startswith("train")] or splits
    if len(candidates) != 1:
        problem = f"has no split '{wanted}'" if wanted else "has several splits"
        raise IngestError(
            f"the hub data set {repo} {problem}: write {PREFIX}{repo}:SPLIT with one of "
            f"{', '.join(splits[:12])}"
        )
    return candidates[0]


def _list(repo: str, revision: str | None) -> list[str]:
    import huggingface_hub

    try:
        # Unlike list_repo_files this does not retry for half a minute without a network.
        found = huggingface_hub.dataset_info(repo, revision=revision, timeout=TIMEOUT)
    except _client_errors() as error:
        raise _unreachable(repo, error) from error
    return [file.rfilename for file in found.siblings or ()]


def _download(repo: str, name: str, revision: str | None) -> Path:
    import huggingface_hub

    try:
        file = huggingface_hub.hf_hub_download(repo, name, repo_type="dataset", revision=revision)
    except _client_errors() as error:
        raise _unreachable(repo, error) from error
    return Path(file)


def _client_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises: its own errors, the system's, and its HTTP library's.

    Which library that is changes between versions; the base of the hub's own HTTP error tells.
    """
    from huggingface_hub.errors import HfHubHTTPError

    bases: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
    return (OSError, ValueError, *bases)


def _unreachable(repo: str, error: Exception) -> IngestError:
    cause = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return IngestError(
        f"cannot get the data set {repo} from the hub ({cause[:120]}): check the name and the "
        "connection, or download it and give the folder as path"
    )
