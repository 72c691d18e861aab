"""A model behind an OpenAI-compatible URL that is asked in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from palate.config import ConfigError
from palate.judge.orders import Failed
from palate.judge.server import Server
from palate.judge.wire import Reply as Received
from palate.problems import explain
from palate.records import Message
from palate.sections import ServerConfig
from palate.speak.speaker import Manner, Reply


class RemoteSpeaker:
    """Asks a chat server, several conversations at once, with its retries, limits and cache.

    What a server draws is its own affair: `seed` is sent, and many servers heed it. A question that
    got no reply fails under ``server``; `JudgeStopped`, a `ValueError`, says when the server or a
    limit allows no more.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.name = f"{config.model} at {config.url}"
        self._server = Server(config)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def ask(self, conversations: Sequence[Sequence[Message]], manner: Manner) -> list[Reply]:
        """One reply each; conversation i is asked with a seed of its own."""
        bodies = [
            self._server.body(
                turns,
                temperature=manner.temperature,
                max_tokens=manner.max_new_tokens,
                # 31 bits, which every server takes
                seed=(manner.seed + number) % 2**31,
            )
            for number, turns in enumerate(conversations)
        ]
        if not bodies:
            return []
        return [_as_reply(one) for one in self._server.ask(bodies, _read, whole=False)]


def _read(reply: Received) -> Reply:
    if reply.finish == "content_filter":
        return Reply("", finished=False, failure="content-filter")
    return Reply(reply.text.strip(), finished=reply.finish != "length")


def _as_reply(told: Reply | Failed) -> Reply:
    return Reply("", finished=False, failure="server") if isinstance(told, Failed) else told


def open_remote(url: str, more: Mapping[str, Any]) -> RemoteSpeaker:
    """The model `more['model']` at the URL; raises `ConfigError` for a setting that is wrong."""
    if "model" not in more:
        raise ConfigError(f"say which model at {url} is meant: server.model=NAME")
    try:
        return RemoteSpeaker(ServerConfig.model_validate({**more, "url": url}))
    except ValidationError as error:
        raise ConfigError(explain(error, ServerConfig, under="server")) from error
