"""Curate: records in, records out. Nothing here knows tokenizers, models or torch."""

from palate.curate.funnel import Funnel, Stage
from palate.curate.prepare import Prepared, prepare

__all__ = ["Funnel", "Prepared", "Stage", "prepare"]
