"""Where a request may go: below the upstream, whatever its target says."""

from __future__ import annotations

import asyncio

import pytest

from palate.web.capture.settings import CaptureConfig
from palate.web.capture.upstream import Upstream, UpstreamError


@pytest.mark.parametrize("target", [b"@evil.example/x", b".evil.example/x", b":81/x", b"", b"*"])
def test_a_target_that_would_change_the_host_is_refused(target: bytes) -> None:
    async def ask() -> None:
        upstream = Upstream(CaptureConfig(upstream="http://127.0.0.1:9"))
        try:
            await upstream.ask("GET", target, [(b"authorization", b"Bearer sk-secret")], b"")
        finally:
            await upstream.close()

    with pytest.raises(UpstreamError, match="begins with a slash") as refused:
        asyncio.run(ask())
    assert refused.value.status == 400
