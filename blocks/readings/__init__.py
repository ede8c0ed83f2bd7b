"""Readings: what a verification run showed, from standard reports before text.

Nothing here starts a process, opens a file or knows of missions: bytes in, a `Reading` out.
One module a format: `junit`, `sarif`, `coverage`, `ruff`, `mypy`, `pyright`, `bandit`,
`pytest_text`; a tool's reader returns None when the tool did not speak, which is not "clean".

Reports are written by code that nobody trusts. They are bounded in size, and a damaged one counts
as missing, with the reason kept. They are no proof: tests can write what they like.
"""

from __future__ import annotations

from blocks.readings.reading import Finding, Reading, describe
from blocks.readings.reports import read_reports

__all__ = ["Finding", "Reading", "describe", "read_reports"]
