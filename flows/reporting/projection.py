"""A mission's figures and report, made in a process of their own.

DuckDB takes some hundred megabytes for a moment, and a mission must not fail for its figures: the
driver's process neither loads it nor ends with it.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from blocks.commands import run
from blocks.errors import CommandFailed

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0


def project(home: Path, mission: str) -> str:
    """Bring a mission's metrics up to date; returns its report (Markdown), empty on trouble."""
    argv = [sys.executable, "-m", "flows.reporting.metrics", str(home), mission]
    try:
        done = run(argv, timeout_seconds=PATIENCE_SECONDS)
    except CommandFailed as failed:
        logger.warning("no metrics for now, `mission metrics` makes them: %s", failed)
        return ""
    return done.text
