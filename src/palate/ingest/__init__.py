"""Ingest: files of other programs become `Example` records, one module per format."""

from palate.ingest.errors import IngestError
from palate.ingest.format import Format
from palate.ingest.read import read_arrivals, read_examples
from palate.ingest.registry import FORMATS

__all__ = ["FORMATS", "Format", "IngestError", "read_arrivals", "read_examples"]
