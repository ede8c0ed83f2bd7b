"""A mission in the Prefect UI: its progress, its units as a table, its report.

One thread writes them, no more often than people look; a server that does not answer harms nothing.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flows.ledger.state import ENDED, MissionState, UnitState
from flows.reporting.narration import first_line, tally

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
SHOWN_CHARACTERS = 200


class _Board:
    """The artifacts of one flow run."""

    def __init__(self, mission: str, state: MissionState) -> None:
        self._mission, self._state = mission, state
        self._progress: UUID | None = None
        self._seen = -1

    def refresh(self) -> None:
        """Bring the progress up to date, when anything happened."""
        if self._state.seq == self._seen:
            return
        self._seen = self._state.seq
        try:
            self._refresh()
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the artifacts could not be written: %s", error)

    def _refresh(self) -> None:
        done, text = _share_done(self._state), tally(self._state.counts)
        if self._progress is None:
            self._progress = cast("UUID", create_progress_artifact(done, description=text))
        else:
            update_progress_artifact(self._progress, done, description=text)

    def conclude(self) -> None:
        """Write the last word: progress, and the table of units."""
        try:
            self._refresh()
            if rows := [_row(unit) for unit in self._state.planned_units]:
                create_table_artifact(rows, key="units", description=f"Units of {self._mission}")
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the artifacts could not be written: %s", error)


@contextmanager
def published(mission: str, state: MissionState) -> Iterator[None]:
    """Keep a mission's artifacts up to date meanwhile."""
    board, over = _Board(mission, state), Event()

    def work() -> None:
        while not over.wait(REFRESH_SECONDS):
            board.refresh()
        board.conclude()

    context = contextvars.copy_context()  # tells Prefect which flow run they belong to
    thread = Thread(target=context.run, args=(work,), name="artifacts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def publish_report(markdown: str) -> None:
    """Write a mission's report as an artifact of the flow run."""
    try:
        create_markdown_artifact(markdown, key="report", description="Report of the mission")
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the report could not be written: %s", error)


def _share_done(state: MissionState) -> float:
    units = state.planned_units
    if not units:
        return 0.0
    return round(100.0 * sum(u.status in ENDED for u in units) / len(units), 1)


def _row(unit: UnitState) -> dict[str, str | int]:
    return {
        "unit": unit.unit.id,
        "title": unit.unit.title,
        "status": unit.status.value,
        "attempts": unit.tries,
        "depends on": ", ".join(unit.unit.depends_on),
        "commit": unit.commit[:12] if unit.status == "landed" else "",
        "why": "" if unit.status == "landed" else first_line(unit.cause)[:SHOWN_CHARACTERS],
    }
