"""`POST /v1/chat/completions`, from the body to the last byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import orjson

from palate.records import RecordError
from palate.serve.choices import Choices
from palate.serve.guarding import REFUSAL, Gate
from palate.serve.job import FAILED, GONE, Job, open_job
from palate.serve.keeping import Keeper
from palate.serve.metrics import Metrics
from palate.serve.models import Served
from palate.serve.prompt import prompt_of
from palate.serve.refusal import Refused
from palate.serve.replies import DONE, Replies, Said, event, usage
from palate.serve.request import Wanted, read_request
from palate.serve.scheduler import Scheduler
from palate.serve.settings import Settings
from palate.serve.text import Piece
from palate.web.asgi import Message, Receive, Send, header, read_body
from palate.web.capture.bodies import decoded

_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
T = TypeVar("T")
DISCONNECTED = 499
"""The status under which a request is counted whose client left, as nginx has it."""


class Left(Exception):
    """The client hung up, or takes nothing any more."""


@dataclass(slots=True)
class Call:
    """One request with what is known of it by now."""

    scope: Message
    receive: Receive
    send: Send
    body: bytes = b""
    wanted: Wanted | None = None
    prompt: int = 0
    begun: float = field(default_factory=perf_counter)
    streaming: bool = False  # whether the head has been sent


class Chat:
    """Answers chat completions with the models that `models` has by name."""

    def __init__(
        self,
        models: dict[str, Served],
        scheduler: Scheduler,
        settings: Settings,
        metrics: Metrics,
        gate: Gate | None,
        keeper: Keeper | None,
    ) -> None:
        self._models, self._scheduler, self._settings = models, scheduler, settings
        self._metrics, self._gate, self._keeper = metrics, gate, keeper
        # One thread reads, renders and encodes: a long prompt does not hold up the event loop.
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="render")
        lanes = {id(served.lane): served.lane for served in models.values()}
        self._most_open = sum(lane.rows for lane in lanes.values()) + settings.queue
        self.open = 0
        """Requests on their way just now."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request; raises `Refused` while no byte of an answer has been sent."""
        call = Call(scope, receive, send)
        status, name = 500, ""
        self.open += 1
        try:
            self._refuse_crowd()
            async with asyncio.timeout(self._settings.timeout):
                await self._serve(call)
            status = 200
        except Left:
            status = DISCONNECTED
            self._metrics.disconnects.inc()
        except TimeoutError:
            status = 504
            await self._break_off(call, Refused(504, "the answer took too long", code="timeout"))
        except Refused as error:
            status = error.status
            await self._break_off(call, error)
        finally:
            self.open -= 1
            if call.wanted is not None and call.wanted.model in self._models:
                name = call.wanted.model
            self._metrics.requests.labels(name, str(status)).inc()
            self._metrics.total.observe(perf_counter() - call.begun)

    def _refuse_crowd(self) -> None:
        """`Refused` before anything is read, where more are here than could run and wait."""
        if self.open > self._most_open:
            raise Refused(
                429,
                f"{self.open - 1} requests are here already: try again in a moment",
                code="queue_full",
                retry_after=1,
            )

    async def _break_off(self, call: Call, error: Refused) -> None:
        """Say what is wrong: as a reply, or within a stream that has begun."""
        if not call.streaming:
            raise error
        with suppress(Left):
            await self._put(call, event(error.body()), last=True)

    async def _serve(self, call: Call) -> None:
        body = call.body = await self._body(call)
        coding = header(call.scope["headers"], "content-encoding")
        wanted = call.wanted = await self._aside(self._read, body, coding)
        served = self._models.get(wanted.model)
        if served is None:
            raise no_model(wanted.model, self._models)
        ids = await self._aside(prompt_of, served, wanted)
        call.prompt = len(ids)
        replies = Replies(served.name, served.fingerprint)
        choices = Choices(wanted, served)
        ready = self._job(served, wanted, ids)
        job = ready if self._gate is None or await self._gate.admits(wanted) else None
        if job is not None:
            self._scheduler.submit(served.lane, job)
        pieces = _refusals(wanted.n) if job is None else self._pieces(call, job)
        try:
            await self._reply(call, pieces, choices, replies, job)
        finally:
            if job is not None and not job.over:
                self._scheduler.leave(job)
        self._count(served, call, job)

    def _count(self, served: Served, call: Call, job: Job | None) -> None:
        self._metrics.tokens_in.labels(served.name).inc(call.prompt)
        self._metrics.tokens_out.labels(served.name).inc(0 if job is None else job.tokens)

    async def _aside(self, work: Callable[..., T], *given: Any) -> T:
        """Work that may take long, away from the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._rendering, work, *given)

    async def _body(self, call: Call) -> bytes:
        limit = self._settings.max_body
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                body = await read_body(call.receive, limit)
        except TimeoutError:
            raise Refused(408, "the body did not come in time", code="timeout") from None
        if body is None:
            raise Left
        if len(body) > limit:
            raise Refused(413, f"the body has more than {limit} bytes", code="too_large")
        return body

    def _read(self, body: bytes, coding: str) -> Wanted:
        try:
            text = decoded(body, coding, self._settings.max_body)
        except RecordError as error:
            status = 413 if error.reason == "too-large" else 400
            raise Refused(status, str(error), code=error.reason) from error
        return read_request(text)

    def _job(self, served: Served, wanted: Wanted, ids: list[int]) -> Job:
        most = self._most(served, wanted, len(ids))
        return open_job(
            served.shifted(ids),
            wanted.sampling,
            n=wanted.n,
            stops=wanted.stop,
            top=wanted.top,
            tokenizer=served.reader,
            ends=served.renderer.end_ids,
            most=most,
        )

    def _most(self, served: Served, wanted: Wanted, prompt: int) -> int:
        """How long each choice may become; raises `Refused` for what is beyond the model."""
        lane, asked = served.lane, wanted.sampling.max_new_tokens
        most = asked or min(self._settings.max_tokens, lane.limit - prompt)
        if prompt + max(1, most) > lane.limit:
            raise Refused(
                400,
                f"the model's context is {lane.limit} tokens, and the request needs "
                f"{prompt} for its messages and {max(1, most)} for the answer",
                param="max_tokens" if prompt < lane.limit else "messages",
                code="context_length_exceeded",
            )
        if not lane.fits_alone(prompt, most, wanted.n):
            raise Refused(
                400,
                f"{wanted.n} answers of {most} tokens to {prompt} tokens are more than this server "
                f"has room for: {lane.rows} answers, {lane.room} tokens at once",
                param="n" if wanted.n > 1 else "max_tokens",
                code="no_room",
            )
        return most

    async def _pieces(self, call: Call, job: Job) -> AsyncGenerator[Piece, None]:
        """What the scheduler tells of this job, as long as the client is there."""
        watching = asyncio.create_task(_watch(call.receive, job))
        seen = ended = 0
        try:
            while ended < len(job.choices):
                piece = await job.pieces.get()
                if piece.finish == GONE:
                    raise Left
                if piece.finish == FAILED:
                    raise Refused(500, "the answer could not be computed", code="internal_error")
                if not seen:
                    self._metrics.first_token.observe(perf_counter() - call.begun)
                seen, ended = seen + 1, ended + (piece.finish is not None)
                yield piece
        finally:
            watching.cancel()

    async def _reply(
        self,
        call: Call,
        pieces: AsyncGenerator[Piece, None],
        choices: Choices,
        replies: Replies,
        job: Job | None,
    ) -> None:
        """Send what there is: at once, or at the end where somebody must look at the whole."""
        wanted = call.wanted
        assert wanted is not None, "it was read before"
        live = wanted.stream and self._gate is None
        async with aclosing(pieces):
            async for piece in pieces:
                said = choices.take(piece)
                if live and said is not None:
                    await self._stream(call, replies, [said], choices)
        if job is not None and self._gate is not None:
            good = await self._gate.sends(wanted, choices.texts())
            choices.block([index for index, one in enumerate(good) if not one])
        spent = usage(call.prompt, 0 if job is None else job.tokens)
        whole = replies.completion(choices.said, spent)
        if wanted.stream:
            if not live:
                await self._stream(call, replies, choices.said, choices)
            if wanted.usage:
                await self._put(call, replies.chunk([], spent, asked=True))
            await self._put(call, DONE, last=True)
        else:
            await self._whole(call, whole)
        self._keep(call, whole, choices)

    async def _stream(
        self, call: Call, replies: Replies, said: list[Said], choices: Choices
    ) -> None:
        wanted = call.wanted
        assert wanted is not None, "it was read before"
        for one in said:
            deltas = []
            if choices.begins(one.index):
                deltas.append(Said(one.index).delta(first=True))
            if one.content or one.calls or one.logps or one.finish:
                ending, one.finish = one.finish, None
                if one.content or one.calls or one.logps:
                    deltas.append(one.delta(first=False))
                one.finish = ending
                if ending is not None:
                    deltas.append(Said(one.index, finish=ending).delta(first=False))
            for delta in deltas:
                await self._put(call, replies.chunk([delta], asked=wanted.usage))

    async def _put(self, call: Call, data: bytes, *, last: bool = False) -> None:
        """Send some of a stream, its head first."""
        if not call.streaming:
            call.streaming = True
            await self._send(call, {"type": "http.response.start", "status": 200, "headers": _SSE})
        await self._send(call, {"type": "http.response.body", "body": data, "more_body": not last})

    async def _whole(self, call: Call, value: dict[str, Any]) -> None:
        body = orjson.dumps(value)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await self._send(call, {"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(call, {"type": "http.response.body", "body": body})

    async def _send(self, call: Call, message: dict[str, Any]) -> None:
        """Send; a client that takes nothing for too long has left."""
        try:
            async with asyncio.timeout(self._settings.send_timeout):
                await call.send(message)
        except TimeoutError:
            raise Left from None

    def _keep(self, call: Call, whole: dict[str, Any], choices: Choices) -> None:
        """Store what was answered; what the guard blocked is nobody's answer."""
        if self._keeper is not None and not choices.blocked:
            for choice in whole["choices"]:
                choice["logprobs"] = None
            self._keeper.keep(call.scope, call.body, whole)


async def _watch(receive: Receive, job: Job) -> None:
    """Tell the job's reader when the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.pieces.put_nowait(Piece(0, "", [], GONE))


async def _refusals(n: int) -> AsyncGenerator[Piece, None]:
    """What stands for the answers to a prompt that the guard does not admit."""
    for index in range(n):
        yield Piece(index, REFUSAL, [], "content_filter")


def no_model(name: str, models: dict[str, Served]) -> Refused:
    """A name that nothing is served under."""
    return Refused(
        404,
        f"there is no model '{name:.100}' here; there are: {', '.join(models)}",
        param="model",
        code="model_not_found",
    )
