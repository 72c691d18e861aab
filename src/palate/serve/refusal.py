"""Requests that are refused: an HTTP status and OpenAI's error object."""

from __future__ import annotations

from typing import Any

_KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that gets an error: `param` is what is wrong with it, `code` a slug."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after = retry_after
        """Seconds after which another try may be of use."""

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients expect it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(self),
                "type": _KINDS.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }


def wrong(param: str, message: str) -> Refused:
    """A parameter that is not what it should be."""
    return Refused(400, f"'{param}' {message}", param=param, code="invalid_value")
