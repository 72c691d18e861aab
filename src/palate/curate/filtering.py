"""The filters of a recipe in their order, each a stage of the funnel if it did something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from palate.config import FilterConfig
from palate.curate.filters import Check, apply_filters
from palate.curate.funnel import Funnel
from palate.curate.rejects import OnReject
from palate.records import Example, Reject

if TYPE_CHECKING:
    from palate.curate.personal import Search

Examples = Sequence[Example]
Step = Callable[[Examples, OnReject], tuple[list[Example], str]]
"""What remains, and what the step did beside dropping; it names what it drops to a callback."""
ALWAYS = "filter"
"""The stage that is in every funnel."""


def run_filters(
    examples: Examples,
    settings: FilterConfig,
    on_reject: OnReject,
    funnel: Funnel,
    unit: str,
    check: Check | None = None,
) -> list[Example]:
    """The examples that pass every filter, in their order; `funnel` gets the stages.

    In this order, the cheap and those that judge an example by itself first:

    1. ``provider``: errors that were logged as answers; ``refusals``; ``language``;
    2. ``personal``: before anything compares examples, which redaction may make equal;
    3. ``filter``: faults, contradictions, copies, and `check` (see `apply_filters`);
    4. ``contamination`` with evaluation prompts;
    5. ``near-duplicates``.

    Where personal data is dropped or redacted, the excerpts of the rejects are redacted too.
    Raises `ValueError` for a setting that names something unknown or needs what is not installed,
    and `IngestError` for evaluation prompts that cannot be read; both before anything is dropped.
    """
    search = _search(settings)
    steps = list(_steps(settings, check, search))
    clean = reject_cleaner(settings, search)
    left = list(examples)
    for name, step in steps:
        dropped: Counter[str] = Counter()

        def count(found: Reject, dropped: Counter[str] = dropped) -> None:
            dropped[found.reason] += 1
            on_reject(clean(found))

        left, note = step(left, count)
        if dropped or note or name == ALWAYS:
            funnel.add(name, len(left), unit, dropped, note)
    return left


def reject_cleaner(
    settings: FilterConfig, search: Search | None = None
) -> Callable[[Reject], Reject]:
    """What takes personal data out of a reject's excerpt, where the settings ask for that."""
    if settings.personal not in {"drop", "redact"}:
        return lambda found: found
    from palate.curate.personal import without_personal

    finds = search or _search(settings)
    assert finds is not None, "drop and redact search"
    return lambda found: without_personal(found, finds)


def _search(settings: FilterConfig) -> Search | None:
    """The search for personal data, which takes a second to be made."""
    if settings.personal == "keep":
        return None
    from palate.curate.personal import KINDS, personal_search

    return personal_search(settings.personal_kinds or KINDS)


def _steps(
    settings: FilterConfig, check: Check | None, search: Search | None
) -> Iterator[tuple[str, Step]]:
    from palate.curate.provider import drop_provider_errors, drop_refusals

    if settings.provider_errors == "drop":
        yield "provider", _only_dropping(drop_provider_errors)
    if settings.refusals == "drop":
        yield "refusals", _only_dropping(drop_refusals)
    if settings.languages is not None:
        from palate.curate.language import drop_other_languages, language_judge

        judge = language_judge(settings.languages)
        yield "language", _only_dropping(lambda e, on: drop_other_languages(e, on, judge))
    if search is not None:
        yield "personal", _personal(settings, search)
    keep = {
        "keep_truncated": settings.truncated == "keep",
        "keep_errors": settings.provider_errors == "keep",
    }
    yield ALWAYS, _only_dropping(lambda e, on: apply_filters(e, on, check=check, **keep))
    if settings.contamination:
        from palate.curate.contamination import drop_contaminated, read_evaluation

        evaluation = read_evaluation(settings.contamination, settings.contamination_words)
        yield "contamination", _only_dropping(lambda e, on: drop_contaminated(e, on, evaluation))
    if settings.near_duplicates == "drop":
        from palate.curate.near_duplicates import drop_near_duplicates

        alike = settings.similarity
        yield "near-duplicates", _only_dropping(lambda e, on: drop_near_duplicates(e, on, alike))


def _only_dropping(drop: Callable[[Examples, OnReject], list[Example]]) -> Step:
    return lambda examples, on_reject: (drop(examples, on_reject), "")


def _personal(settings: FilterConfig, search: Search) -> Step:
    from palate.curate.personal import search_examples

    def step(examples: Examples, on_reject: OnReject) -> tuple[list[Example], str]:
        done = search_examples(examples, on_reject, search, settings.personal)
        if not done.concerned or settings.personal == "drop":
            return done.examples, ""
        verb = {"report": "found", "redact": "replaced"}[settings.personal]
        kinds = ", ".join(f"{count} {kind}" for kind, count in done.kinds.most_common())
        return done.examples, f"{verb} {kinds} in {done.concerned} of {len(examples)}"

    return step
