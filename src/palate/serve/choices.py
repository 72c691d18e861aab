"""The choices of one request as they grow: text, tool calls, log-probs, how each ends."""

from __future__ import annotations

from collections.abc import Sequence

from palate.ingest.messages import parse_answer
from palate.records import Message
from palate.serve.guarding import REFUSAL
from palate.serve.models import Served
from palate.serve.replies import Said
from palate.serve.request import Wanted
from palate.serve.text import Piece
from palate.serve.tools import ToolReader, format_of

BLOCKED = "content_filter"


class Choices:
    """Puts pieces together; `said` is what there is so far, `blocked` whether anything was."""

    def __init__(self, wanted: Wanted, served: Served) -> None:
        template = getattr(served.renderer.tokenizer, "chat_template", None)
        format = format_of(template) if wanted.tools else None
        names = [tool["function"]["name"] for tool in wanted.tools]
        self._readers = [ToolReader(format, names) for _ in range(wanted.n)]
        self._names = served.names
        self._begun: set[int] = set()
        logps = wanted.top is not None
        self.said = [Said(index, logps=[] if logps else None) for index in range(wanted.n)]
        self.blocked = False

    def take(self, piece: Piece) -> Said | None:
        """Add a piece; what of it can be shown now, None where that is nothing."""
        reader, whole = self._readers[piece.index], self.said[piece.index]
        fresh = Said(piece.index, reader.feed(piece.text), finish=piece.finish)
        if piece.finish is not None:
            rest, fresh.calls = reader.finish()
            fresh.content += rest
            if fresh.calls and piece.finish == "stop":
                fresh.finish = "tool_calls"
        if whole.logps is not None:
            fresh.logps = [self._names.entry(token) for token in piece.tokens]
            whole.logps += fresh.logps
        whole.content += fresh.content
        whole.calls += fresh.calls
        whole.finish = fresh.finish
        self.blocked = self.blocked or fresh.finish == BLOCKED
        return fresh if fresh.content or fresh.calls or fresh.logps or fresh.finish else None

    def begins(self, index: int) -> bool:
        """True once for each choice, the first time that it is shown."""
        if index in self._begun:
            return False
        self._begun.add(index)
        return True

    def texts(self) -> list[str | Sequence[Message]]:
        """The answers, for a guard: as text, or with their tool calls."""
        return [
            parse_answer(
                {"role": "assistant", "content": one.content, "tool_calls": one.calls}, "answer"
            )
            if one.calls
            else one.content
            for one in self.said
        ]

    def block(self, indices: Sequence[int]) -> None:
        """Put the refusal in the place of these answers."""
        for index in indices:
            logps: list[dict[str, object]] | None = None if self.said[index].logps is None else []
            self.said[index] = Said(index, REFUSAL, logps=logps, finish=BLOCKED)
            self.blocked = True
