"""What a person is asked, and how the answer reaches the mission."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blocks.commands import run
from blocks.errors import SettingsInvalid
from flows.decisions import APPROVED
from flows.ledger.events import ReviewRequested
from flows.ledger.state import MissionState, UnitState, fold
from flows.missions import records_of, send
from flows.opening import repository_path

REJECTED = "rejected"

SHOWN_LINES = 400
"""Of one unit's diff; what is beyond is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One open question to a person."""

    mission: str
    request: ReviewRequested
    state: MissionState

    @property
    def units(self) -> list[UnitState]:
        """The units that it is about."""
        return [self.state.units[name] for name in self.request.units if name in self.state.units]


def open_review(home: Path, mission: str) -> Review | None:
    """The question of a mission that nobody has answered yet, if there is one."""
    records = records_of(home, mission)
    state = fold(records)
    if state.finished is not None:
        return None
    asked = (r.event for r in records if isinstance(r.event, ReviewRequested))
    found = next((each for each in asked if not state.reviews.get(each.review)), None)
    return Review(mission=mission, request=found, state=state) if found else None


def needed_review(home: Path, mission: str) -> Review:
    """The open question of a mission.

    Raises:
        SettingsInvalid: nothing is asked.
    """
    review = open_review(home, mission)
    if review is None:
        raise SettingsInvalid(f"{mission} asks nothing; `mission status {mission}` shows it")
    return review


def review_text(home: Path, review: Review) -> str:
    """Tell a person what is asked: each unit, how it ended, and what it changed."""
    return "\n".join(_lines(home, review))


def answer(home: Path, review: Review, *, approve: bool, note: str, by: str) -> None:
    """Hand the answer to the mission; it takes it when it goes on."""
    message = {
        "command": "review",
        "review": review.request.review,
        "answer": APPROVED if approve else REJECTED,
        "by": by,
        "note": note,
    }
    send(home, review.mission, message)


def _lines(home: Path, review: Review) -> Iterator[str]:
    yield f"{review.mission} waits for a review ({review.request.review}): {review.request.about}"
    started = review.state.started
    for unit in review.units:
        yield f"\n{unit.unit.id}: {unit.unit.title}: {unit.status.value}"
        if not unit.commit:
            yield f"  {unit.cause}".rstrip()
            continue
        repository = repository_path(home, started.repository if started else "")
        yield from _diff(repository, unit.commit)


def _diff(repository: Path, commit: str) -> Iterator[str]:
    argv = ["git", "--git-dir", str(repository), "show", "--stat", "--patch", "--no-color", commit]
    lines = run(argv).stdout.decode(errors="backslashreplace").splitlines()
    yield from lines[:SHOWN_LINES]
    if (n_more := len(lines) - SHOWN_LINES) > 0:
        yield f"[… {n_more} lines more: git --git-dir {repository} show {commit[:12]} …]"
