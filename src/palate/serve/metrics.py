"""What `/metrics` tells, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts and times since the start, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "palate_requests",
            "Requests for completions that ended, by model and HTTP status (499: disconnected).",
            ["model", "status"],
            registry=self.registry,
        )
        self.tokens_in = self._by_model("palate_prompt_tokens", "Tokens of prompts.")
        self.tokens_out = self._by_model("palate_completion_tokens", "Tokens of answers.")
        self.disconnects = Counter(
            "palate_disconnects", "Clients that left early.", registry=self.registry
        )
        self.blocks = Counter(
            "palate_guard_blocks", "What the guard blocked.", ["kind"], registry=self.registry
        )
        self.feedback = Counter(
            "palate_feedback", "Feedback that was taken.", registry=self.registry
        )
        self.first_token = self._seconds(
            "palate_time_to_first_token_seconds", "From the request's arrival to its first token."
        )
        self.total = self._seconds(
            "palate_request_seconds", "From the request's arrival to the end of its answer."
        )
        self.guard = Histogram(
            "palate_guard_seconds",
            "What asking the guard adds to a request.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def _by_model(self, name: str, what: str) -> Counter:
        return Counter(name, what, ["model"], registry=self.registry)

    def _seconds(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, buckets=_SECONDS, registry=self.registry)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when somebody asks."""
        Gauge(name, what, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
