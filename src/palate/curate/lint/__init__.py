"""Lint: whether the pairs teach what the person thinks they teach. One check, one file."""

from palate.curate.lint.findings import Finding, Number, Report
from palate.curate.lint.registry import CHECKS, lint
from palate.curate.lint.target import TargetModel

__all__ = ["CHECKS", "Finding", "Number", "Report", "TargetModel", "lint"]
