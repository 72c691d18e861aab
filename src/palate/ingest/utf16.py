"""Files in UTF-16, as Windows writes them, read as the UTF-8 that everything else takes."""

from __future__ import annotations

import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from typing import Any, BinaryIO, cast

_CHUNK = 1 << 16  # characters that are read at a time


def as_utf8(handle: BinaryIO) -> BinaryIO:
    """The same bytes; of a file that begins with UTF-16's mark, what it says in UTF-8."""
    start = cast(io.BufferedReader, handle).peek(2)[:2]
    if start not in (BOM_UTF16_LE, BOM_UTF16_BE):
        return handle
    return cast(BinaryIO, io.BufferedReader(_Utf8(handle)))


class _Utf8(io.RawIOBase):
    """A text in UTF-16 as bytes of UTF-8; half a surrogate pair stays one, for the row's reader."""

    def __init__(self, handle: BinaryIO) -> None:
        self.text = io.TextIOWrapper(handle, "utf-16", errors="surrogatepass", newline="")
        self.rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; raises `OSError` where the text is cut within a character."""
        if not self.rest:
            try:
                self.rest = self.text.read(_CHUNK).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise OSError(f"the file is not UTF-16 throughout: {error.reason}") from error
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size
