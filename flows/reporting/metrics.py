"""The metrics file of a `MISSION_HOME`: a projection of all ledgers that may be deleted at will."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from blocks.errors import MissionError
from blocks.metrics import MetricsStore
from flows.home import METRICS_FILE
from flows.reporting.report import report
from flows.reporting.sync import SyncResult, open_for_reading, rebuild, sync

logger = logging.getLogger(__name__)


def metrics_file(home: Path) -> Path:
    """Where the DuckDB file is."""
    return home / METRICS_FILE


def sync_all(home: Path, *, anew: bool = False) -> SyncResult:
    """Bring the file up to date with all ledgers, or make it anew from them.

    Raises:
        StoreBusy: another process reads or writes it for too long.
    """
    make = rebuild if anew else sync
    return make(MetricsStore(metrics_file(home)), home / "missions")


def sync_quietly(home: Path, mission: str) -> None:
    """Bring one mission's rows up to date; a mission never fails for its figures."""
    try:
        sync(MetricsStore(metrics_file(home)), home / "missions", only=mission)
    except MissionError as busy:
        logger.warning("the metrics were not brought up to date, `mission metrics` will: %s", busy)


def report_of(home: Path, mission: str) -> str:
    """A mission's report in Markdown; works while a mission writes the file."""
    store = open_for_reading(metrics_file(home), home / "missions", only=mission)
    try:
        return report(store.connection, mission)
    finally:
        store.connection.close()


if __name__ == "__main__":  # the driver's projection: see flows/reporting/projection.py
    sync_quietly(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.write(report_of(Path(sys.argv[1]), sys.argv[2]))
