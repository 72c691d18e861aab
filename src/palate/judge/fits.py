"""JSON that must fit a schema, as a judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import regex
from jsonschema.protocols import Validator
from referencing import Registry

from palate.judge.opinion import Answered, Closing, Score
from palate.judge.regular import SECONDS

MOST_SHOWN = 10  # violations
_FENCED = re.compile(r"^```[ \t]*(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


class SchemaScorer(Closing):
    """1 for an answer that is JSON and fits the schema; less with each part that does not fit.

    0 for what is no JSON, and 1 / (1 + k) for k violations (10 at most are counted). The JSON is
    the whole answer, or its only fenced block that is called json or has no name. Nothing is
    fetched: a `$ref` that leads out of the schema is a failure.
    """

    def __init__(self, schema: dict[str, Any], *, name: str = "schema") -> None:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            where = error.json_path
            raise ValueError(f"the JSON Schema is none, at {where}: {error.message}") from error
        extend: Any = jsonschema.validators.extend
        timed = extend(kind, {"pattern": _pattern})
        self._validator: Validator = timed(
            schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER
        )
        self.name = name

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        return [self._one(answer.text) for answer in answers]

    def _one(self, text: str) -> Score:
        try:
            value = read_json(text)
        except ValueError as error:
            return Score(0.0, False, (str(error),))
        try:
            wrong = list(islice(self._validator.iter_errors(value), MOST_SHOWN))
        except TimeoutError:
            return Score(None, failure=f"a pattern of the schema took more than {SECONDS:g} s")
        except RecursionError:
            return Score(0.0, False, ("nested too deeply",))
        except Exception as error:  # noqa: BLE001 - a reference that leads nowhere has many classes
            return Score(None, failure=f"the schema cannot be followed: {error}")
        said = tuple(f"{e.json_path}: {e.message}"[:200] for e in wrong)
        return Score(1 / (1 + len(wrong)), not wrong, said)


def load_schema(schema: str | dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or as the JSON file of that path holds it; `ValueError` if none does."""
    if not isinstance(schema, str):
        return schema
    try:
        read = json.loads(Path(schema).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the JSON Schema {schema}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the JSON Schema {schema} is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"the JSON Schema {schema} must be an object")
    return read


def read_json(text: str) -> Any:
    """The JSON of an answer, whole or in its only fenced block; `ValueError` says what is wrong."""
    found = text.strip()
    if "```" in found:
        blocks = [body for name, body in _FENCED.findall(found) if name.lower() in {"", "json"}]
        if len(blocks) > 1:
            raise ValueError("several blocks of JSON")
        found = blocks[0] if blocks else found
    try:
        return json.loads(found, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError("no JSON") from error


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _pattern(
    _validator: Any, pattern: str, instance: Any, _schema: Any
) -> Iterator[jsonschema.ValidationError]:
    """The keyword `pattern`, in a time that is bounded."""
    if isinstance(instance, str) and not regex.search(pattern, instance, timeout=SECONDS):
        yield jsonschema.ValidationError(f"{instance!r:.80} does not match {pattern!r:.80}")
