"""How TRL is tuned: the micro-batch that is fastest among those that fit in memory."""

from __future__ import annotations

from dataclasses import replace

from .course import Course
from .duel import Failed, Processes, Say
from .sample import Entry, Sample

# Tokens of a micro-batch where no search is made, padding included.
QUICK_TOKENS = 4096
# A smaller batch that is this much slower than the best so far ends the search.
_WORSE = 1.10


def tuned(
    processes: Processes, course: Course, entry: Entry, batch: int | None, quick: bool, say: Say
) -> Entry:
    """The entry with everything tuned that TRL offers, and the allocator and threads.

    The reference is computed beforehand, gradient checkpointing is off where that fits, and
    the batch is the fastest of those that divide the step; with `batch` or `quick` it is not
    searched for: a quick race takes the largest of at most `QUICK_TOKENS` padded tokens.
    """
    best = replace(entry, tuned=True, precompute=True, checkpointing=False)
    sizes = divisors(entry.pairs or course.pairs_per_step)
    if batch is not None:
        if batch not in sizes:
            raise ValueError(f"--batch {batch} does not divide the step: choose one of {sizes}")
        return replace(best, batch=batch)
    longest = max(pair.longest for pair in course.pairs)
    small = [size for size in sizes if 2 * size * longest <= QUICK_TOKENS] or sizes[:1]
    if quick:
        return replace(best, batch=small[-1])
    found: list[tuple[float, Entry]] = []
    for size in reversed(sizes):
        tried = _try(processes, replace(best, batch=size), say)
        if tried is not None:
            found.append((tried, replace(best, batch=size)))
            if tried > _WORSE * min(found, key=lambda f: f[0])[0]:
                break
    if not found:
        say("  TRL without checkpointing does not fit, one pair at a time: checkpointing stays on")
        return replace(best, batch=1, checkpointing=True)
    return min(found, key=lambda f: f[0])[1]


def _try(processes: Processes, entry: Entry, say: Say) -> float | None:
    """Seconds for each token of two steps of one micro-batch, the second; None if it fails."""
    short = replace(entry, pairs=entry.batch, precompute=False, warm_up=1, steps=2)
    try:
        sample = processes.run(short)
    except Failed as error:
        say(f"  TRL with {entry.batch} pairs at once does not run: {str(error).splitlines()[-1]}")
        return None
    pace = seconds_per_token(sample)
    gib = sample.peak_bytes / 2**30
    say(f"  TRL with {entry.batch} pairs at once: {1 / pace:.0f} tokens/s, peak {gib:.1f} GiB")
    return pace


def seconds_per_token(sample: Sample) -> float:
    """Of the last step, by the pairs' own tokens: what padding costs is in the time."""
    return sample.seconds[-1] / sample.path[-1]


def divisors(count: int) -> list[int]:
    """Batch sizes that cut a step into equal micro-batches, ascending."""
    return [size for size in range(1, count + 1) if count % size == 0]
