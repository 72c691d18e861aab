"""Numbers as a reader wants them: units, signs, and words where nothing was measured."""

from __future__ import annotations

import re

NOT_MEASURED = "not measured"
MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"


def decimal(value: float | None, digits: int = 2) -> str:
    """0.6931 as ``0.69``; a true minus sign, and no minus before zero."""
    if value is None:
        return NOT_MEASURED
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and any(digit in "123456789" for digit in text)
    return f"{MINUS if negative else ''}{text}"


def compact(value: float | None) -> str:
    """Three significant digits, ``2e-4`` for the very small: what a settings table wants."""
    if value is None:
        return NOT_MEASURED
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"  # with ASCII's minus: as a recipe takes it
    return f"{value:.3g}".replace("-", MINUS) if abs(value) < 1000 else decimal(value, 0)


def count(value: float | None) -> str:
    """12345 as ``12,345``."""
    return decimal(value, 0)


def percent(share: float | None, digits: int = 0) -> str:
    """0.21 as ``21 %``."""
    return NOT_MEASURED if share is None else f"{decimal(100 * share, digits)}{THIN}%"


def signed_percent(share: float | None) -> str:
    """0.031 as ``+3 %``."""
    return NOT_MEASURED if share is None else f"{_plus(100 * share)}{percent(share)}"


def points(difference: float | None) -> str:
    """0.74 as ``+74 points``."""
    if difference is None:
        return NOT_MEASURED
    text = decimal(100 * difference, 0)
    return f"{_plus(100 * difference)}{text} point{'' if text.strip(MINUS) == '1' else 's'}"


def bounds(interval: tuple[float, float] | None) -> str:
    """(0.66, 0.81) as ``[66, 81]``: an interval of shares, in points."""
    if interval is None:
        return ""
    low, high = (decimal(100 * bound, 0) for bound in interval)
    return f"[{low},\N{NO-BREAK SPACE}{high}]"


def longer(change: float | None) -> str:
    """0.03 as ``3 % longer``, -0.5 as ``50 % shorter``."""
    if change is None:
        return NOT_MEASURED
    if round(100 * change) == 0:
        return "as long as before"
    return f"{percent(abs(change))} {'longer' if change > 0 else 'shorter'}"


def duration(seconds: float | None) -> str:
    """112.3 as ``1 min 52 s``."""
    if seconds is None:
        return NOT_MEASURED
    whole = round(seconds)
    if whole < 60:
        return f"{decimal(seconds, 1)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(value: float, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def clean(text: str) -> str:
    """Text that HTML can carry: control characters as their pictures, no lone surrogates.

    What a terminal or a parser would act on (NUL, escape) becomes visible instead.
    """
    text = text.encode("utf-8", "replace").decode()
    text = re.sub("[\x00-\x08\x0b-\x1f]", lambda found: chr(0x2400 + ord(found[0])), text)
    return re.sub("[\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def _plus(value: float) -> str:
    return "+" if round(value) > 0 else ""
