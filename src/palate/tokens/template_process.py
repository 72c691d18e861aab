"""The process in which chat templates are rendered: a program of its own, without anything of ours.

A template is a program that came with a model. jinja2's sandbox keeps it from files and from
Python's insides, and does nothing about its appetite: a template may count to 10^15, or write
'a' * 10**10. Here the system stops it: a limit on CPU time that holds inside C code too, on the
memory of the process, and on what it may write. Nothing of palate is imported, no environment
variable with a key is there, and the process can open no file for writing and start no other.

A line of JSON in, `{"key", "template", "shared", "many", "most"}` (the template only when it is
new; `many` are the variables of each text, beside the shared ones), a line of JSON out:
`{"texts"}`, each `[text, null]` or `[null, the template's own error]`; or `{"refused"}`.
"""

from __future__ import annotations

import json
import operator
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS = 5
"""Of CPU time for one rendering; a long conversation takes a few milliseconds."""
MEMORY = 1_000_000_000
"""Bytes of address space of the process, of which Python and jinja2 need a tenth."""
_BITS, _ITEMS = 4096, 10_000_000  # of a product: where memory has no limit, it has one here


def limit_process() -> None:
    """Bound what the process may use, as far as the system can."""
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {"RLIMIT_AS": MEMORY, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_NPROC": 0}
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):  # not on every system
            continue


def wind(seconds: float) -> None:
    """End the process after so many seconds from now; never with 0.

    The timer counts CPU time, so that a busy machine ends nothing; Windows knows only the wall's.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process that has no handler
        return
    import faulthandler

    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
    else:
        faulthandler.cancel_dump_traceback_later()


class Generation(Extension):
    """`{% generation %}` marks what the assistant says; here it is only a scope."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads it of the class

    def parse(self, parser: Any) -> Any:
        """The body of the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Kept(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*given: Any, **named: Any) -> None:
        fields = dict(*given[1:], **named)
        for name in fields:
            _check_name(name)
        Namespace.__init__(given[0], fields)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


class Dict:
    """`dict`, without what else the type can do."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        """A new one."""
        return dict(*given, **named)

    def fromkeys(self, names: Any, value: Any = None) -> dict[Any, Any]:
        """A new one of these names."""
        return dict.fromkeys(names, value)


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, whose products are bounded."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """What the template multiplies."""
        return bounded(operator, left, right)


def raise_exception(message: object) -> None:
    """How templates refuse a conversation."""
    raise TemplateError(str(message))


def strftime_now(form: str) -> str:
    """The clock on the wall."""
    return datetime.now().strftime(form)  # noqa: DTZ005 - of this place


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models have learned it: jinja2's own is escaped for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def environment() -> Sandbox:
    """The sandbox with the names that transformers gives to chat templates."""
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    sandbox.filters["tojson"] = tojson
    sandbox.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
        "dict": Dict(),
        "namespace": Kept,
    }
    return sandbox


def bounded(sign: str, left: Any, right: Any) -> Any:
    """`left * right` or `left ** right`; `OverflowError` where the result would be gigantic."""
    if sign == "**":
        numbers = isinstance(left, int) and isinstance(right, int)
        if numbers and left.bit_length() * right > _BITS:
            raise OverflowError("a power of more than a thousand digits")
        return operator.pow(left, right)
    for one, other in ((left, right), (right, left)):
        if isinstance(other, int) and hasattr(one, "__len__") and len(one) * other > _ITEMS:
            raise OverflowError(f"a product of more than {_ITEMS} items")
    numbers = isinstance(left, int) and isinstance(right, int)
    if numbers and left.bit_length() + right.bit_length() > _BITS:
        raise OverflowError("a product of more than a thousand digits")
    return operator.mul(left, right)


def answer(request: dict[str, Any], compiled: dict[int, Any], sandbox: Any) -> dict[str, Any]:
    """What is said to one request."""
    key, left = request["key"], request["most"]
    texts: list[tuple[str | None, str | None]] = []
    for variables in request["many"]:
        try:
            if key not in compiled:
                compiled[key] = sandbox.from_string(request["template"])
            text = compiled[key].render({**request["shared"], **variables})
        except MemoryError:
            return {"refused": f"it needs more than {MEMORY // 1_000_000} MB of memory"}
        except Exception as error:  # noqa: BLE001 - a template is somebody's program
            texts.append((None, f"{type(error).__name__}: {str(error)[:1000]}"))
            continue
        left -= len(text)
        if left < 0:
            return {"refused": f"it wrote more than {request['most']} characters"}
        texts.append((text, None))
    return {"texts": texts}


def main(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Answer requests until there are no more."""
    compiled: dict[int, Any] = {}
    sandbox = environment()
    while line := read():
        wind(SECONDS)
        try:
            said = json.dumps(answer(json.loads(line), compiled, sandbox)).encode()
        except MemoryError:
            said = json.dumps({"refused": "it needs too much memory"}).encode()
        wind(0)
        write(said + b"\n")


def serve() -> None:
    """Answer on the standard streams; the limits count from now."""
    limit_process()
    with open(0, "rb", closefd=False) as ask, open(1, "wb", buffering=0, closefd=False) as tell:
        main(ask.readline, tell.write)
