"""Bodies as they were compressed for the way: a decoded copy of each, for the recorder only."""

from __future__ import annotations

import zlib
from io import BytesIO

from palate.records import RecordError

_ARROW = {"gzip": "gzip", "x-gzip": "gzip", "br": "brotli", "zstd": "zstd"}


def decoded(body: bytes, encoding: str, limit: int) -> str:
    """The body's text, of at most `limit` bytes.

    Raises `RecordError`: ``unknown-encoding``, ``broken-encoding``, ``too-large``, ``bad-utf8``.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name not in {"", "identity"}:
            body = _decompressed(body, name, limit)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("bad-utf8", f"byte {error.start} of the body is not UTF-8") from error


def _decompressed(body: bytes, name: str, limit: int) -> bytes:
    import pyarrow as pa  # decodes all of them, and is always installed

    try:
        if name == "deflate":
            out = zlib.decompressobj().decompress(body, limit + 1)
        elif name in _ARROW:
            with pa.CompressedInputStream(BytesIO(body), _ARROW[name]) as stream:
                out = stream.read(limit + 1)
        else:
            raise RecordError("unknown-encoding", f"a body is encoded as {name:.40}")
    except (zlib.error, OSError, EOFError) as error:
        raise RecordError("broken-encoding", f"a body is not {name}: {error}") from error
    if len(out) > limit:
        raise RecordError("too-large", "a body is too long once it is decompressed")
    return out
