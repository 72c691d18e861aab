from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from palate.model.native import build


@pytest.fixture
def with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_NATIVE", raising=False)
    monkeypatch.setattr(build, "cpu_features", lambda: ("amx_bf16",))


def fresh() -> build.Native:
    return build.native.__wrapped__()


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_NATIVE", "off")
    assert fresh() == build.Native(None, "PALATE_NATIVE=off")


def test_a_processor_without_amx_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_NATIVE", raising=False)
    monkeypatch.setattr(build, "cpu_features", lambda: ("avx2", "avx512f"))
    assert fresh() == build.Native(None, "the processor has no AMX")


def test_without_a_compiler_it_says_so(with_amx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = fresh()
    assert found.library is None
    assert "no C++ compiler" in found.reason


def test_a_compiler_that_fails_is_quoted(
    with_amx: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such header" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(compiler))
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    found = fresh()
    assert found.library is None
    assert "no such header" in found.reason
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.skipif(build.native().library is None, reason=build.native().reason)
def test_a_second_start_compiles_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    assert fresh().library is not None
    (first,) = tmp_path.rglob("*.so")
    before = first.stat().st_mtime_ns
    assert fresh().library is not None
    assert [p.stat().st_mtime_ns for p in tmp_path.rglob("*.so")] == [before]
