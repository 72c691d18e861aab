"""Redactions as a team would write them, well or badly, for the tests."""

import os


def shield(text: str) -> str:
    if "explode" in text:
        raise ZeroDivisionError(text)
    return text.replace("Anna", "<NAME>")


def deadly(text: str) -> str:
    if "poison" in text:
        os._exit(9)
    return text
