"""The server as an ASGI application: who may ask, which route it is, and every error's shape."""

from __future__ import annotations

import hmac
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from palate.serve.chat import Chat, no_model
from palate.serve.keeping import Keeper
from palate.serve.metrics import CONTENT_TYPE, Metrics
from palate.serve.models import Served
from palate.serve.refusal import Refused
from palate.web.asgi import Message, Receive, Send, header, reply
from palate.web.listening import is_loopback

State = Literal["loading", "ready", "draining"]
Route = Callable[[Message, Receive, Send], Awaitable[None]]
CHAT, MODELS, FEEDBACK = "/v1/chat/completions", "/v1/models", "/v1/feedback"
HEALTH, METRICS = "/health", "/metrics"
_OPEN = {HEALTH}  # asked by who watches the process, without a key


class App:
    """Routes requests; `chat` is None until the models are there."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        api_key: str | None,
        loopback: bool,
        say: Callable[[str], None],
    ) -> None:
        self._metrics, self._say = metrics, say
        self._key = api_key.encode() if api_key else None
        self._loopback = loopback
        self.state: State = "loading"
        self.models: dict[str, Served] = {}
        self.chat: Chat | None = None
        self.keeper: Keeper | None = None
        self.alive: Callable[[], bool] = lambda: True
        """Whether what computes the answers still runs."""
        self._routes: dict[str, tuple[str, Route]] = {
            CHAT: ("POST", self._chat),
            MODELS: ("GET", self._models),
            FEEDBACK: ("POST", self._feedback),
            HEALTH: ("GET", self._health),
            METRICS: ("GET", self._tell),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError("the server speaks HTTP only")
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._admit(scope)
            await self._route(scope)(scope, receive, sending)
        except Refused as error:
            more = {}
            if error.retry_after is not None:
                more["retry_after"] = str(error.retry_after).encode()
            await reply(send, error.status, error.body(), **more)
        except Exception as error:
            # Only where it happened: its message may hold what was said.
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._say(f"{type(error).__name__} in {where.filename}, line {where.lineno}")
            if begun:
                raise
            failed = Refused(500, "the server failed at this request", code="internal_error")
            await reply(send, failed.status, failed.body())

    def _admit(self, scope: Message) -> None:
        """Refuse what comes from a page of somebody else's, and what has no key."""
        headers = scope["headers"]
        if self._loopback:
            # A page can have its own name point here, or post blindly: both say where it is from.
            host, origin = header(headers, "host"), header(headers, "origin")
            if not is_loopback(_hostname(f"//{host}")):
                raise Refused(403, "this server is asked as localhost only", code="bad_host")
            if origin and not is_loopback(_hostname(origin)):
                raise Refused(403, "pages of other sites may not ask", code="bad_origin")
        if self._key is None or scope["path"] in _OPEN:
            return
        given = header(headers, "authorization").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, self._key):
            raise Refused(401, "the API key is missing or wrong", code="invalid_api_key")

    def _route(self, scope: Message) -> Route:
        path = scope["path"]
        known = self._routes.get(path)
        if known is None and path.startswith(f"{MODELS}/"):
            known = ("GET", self._model)
        if known is None:
            raise Refused(404, f"there is no {path:.100} here", code="unknown_url")
        method, route = known
        if scope["method"] != method and not (method == "GET" and scope["method"] == "HEAD"):
            raise Refused(405, f"{path:.100} is asked with {method}", code="method_not_allowed")
        return route

    async def _chat(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.chat is None or self.state != "ready":
            raise Refused(503, f"the server is {self.state}", code=self.state, retry_after=5)
        if not self.alive():
            raise Refused(503, "the server computes no answers any more: start it again")
        await self.chat(scope, receive, send)

    async def _models(self, _scope: Message, _receive: Receive, send: Send) -> None:
        data = [served.to_dict() for served in self.models.values()]
        await reply(send, 200, {"object": "list", "data": data})

    async def _model(self, scope: Message, _receive: Receive, send: Send) -> None:
        name = unquote(scope["path"].removeprefix(f"{MODELS}/"))
        if name not in self.models:
            raise no_model(name, self.models)
        await reply(send, 200, self.models[name].to_dict())

    async def _feedback(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.keeper is None and self.state == "loading":
            raise Refused(503, "the server is loading", code="loading", retry_after=5)
        if self.keeper is None:
            raise Refused(
                404,
                "this server keeps nothing: start it without --no-store to give feedback",
                code="no_store",
            )
        if await self.keeper.feedback(scope, receive, send):
            self._metrics.feedback.inc()

    async def _health(self, _scope: Message, _receive: Receive, send: Send) -> None:
        status = self.state if self.alive() else "failed"
        body: dict[str, Any] = {"status": status}
        if self.keeper is not None:
            body["store"] = self.keeper.counts()
        await reply(send, 200 if status == "ready" else 503, body)

    async def _tell(self, _scope: Message, _receive: Receive, send: Send) -> None:
        body = self._metrics.text()
        headers = [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
