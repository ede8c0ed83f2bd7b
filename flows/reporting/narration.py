"""A mission told line by line: for terminals that are none, for logs, for the impatient."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from flows.ledger.events import (
    AskEnded,
    AskOutcome,
    AskStarted,
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    BaseRefused,
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CulpritCleared,
    CulpritSetAside,
    Delivered,
    DeliveryFailed,
    Event,
    FlakeSeen,
    GreenAdopted,
    Landed,
    MissionFinished,
    MissionInterrupted,
    MissionResumed,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    RepairEnded,
    RepairStarted,
    ReplanWanted,
    RevertMade,
    RevertRequested,
    ReviewAnswered,
    ReviewRequested,
    RoundJudged,
    RoundStarted,
    StopRequested,
    UnitEnded,
    Warned,
)
from flows.prompts.quoting import on_one_line, readable

SHOWN_UNITS = 4
SHOWN_CHARACTERS = 160

STEPS = (AskStarted, AttemptStarted, ProbeStarted)
"""What is only a step on the way; a log at level `info` does without."""


_WITHOUT_ANSWER = {AskOutcome.UNUSABLE, AskOutcome.TIMED_OUT, AskOutcome.RATE_LIMITED}


def narrate(event: Event) -> str | None:
    """Tell an event in one line; `None` for what only machines care about.

    What agents wrote, names of files among it, does nothing to a terminal.
    """
    line = _told(event)
    return None if line is None else on_one_line(line)


def _told(event: Event) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one line an event
    match event:
        case MissionStarted():
            return f"mission {event.mission} on {event.repository} from {event.start[:12]}"
        case MissionResumed():
            changed = f" with another {', '.join(event.changed)}" if event.changed else ""
            return f"resumed{changed}"
        case MissionInterrupted() if event.reason.startswith("waits for a review"):
            return f"{event.reason}; `mission review` shows it and takes the answer"
        case MissionInterrupted():
            return f"interrupted ({event.reason}); `mission run` again goes on"
        case RoundStarted():
            return f"round {event.round}"
        case PlanMade():
            return f"planned {count(len(event.units), 'unit')} ({event.planner})"
        case AttemptStarted():
            return f"{event.unit}: attempt {event.attempt} started"
        case AttemptEnded() if event.outcome == Outcome.COLLECTED:
            files = count(len(event.files), "file")
            review = f"; its review: {event.review}" if event.review else ""
            seconds = f"{event.agent_seconds:.1f} s"
            return f"{event.unit}: collected, {files} changed, {seconds}{review}"
        case AttemptEnded():
            how = f"{event.outcome}{_until(event.limited_until)}"
            return f"{event.unit}: {how}: {first_line(event.detail)}".rstrip(": ")
        case ProbeStarted():
            return f"probe {event.probe} of {_what(event.kind, event.units)} started"
        case ProbeEnded():
            why = f": {first_line(event.reason)}" if event.reason else ""
            return f"probe {event.probe} {event.verdict} after {event.seconds:.1f} s{why}"
        case CulpritSetAside():
            return f"{event.unit}: set aside as the culprit, until it is known whose fault it is"
        case CulpritCleared():
            return f"{event.unit}: good by itself, back in line"
        case CandidateClashed():
            return f"{event.unit}: good alone, red with {event.partner}: {first_line(event.reason)}"
        case BaseMoved():
            return f"{event.branch} moved to {event.commit[:12]}, which is to be merged"
        case BaseRefused():
            return f"{event.commit[:12]} is left out: {first_line(event.reason)}"
        case RepairStarted():
            return f"{event.unit}: repair {event.repair} of {count(len(event.candidates), 'agent')}"
        case RepairEnded() if event.winner:
            return f"{event.unit}: repaired by {event.winner}, back in line"
        case RepairEnded():
            return (
                f"{event.unit}: repair {event.repair} came to nothing: {first_line(event.reason)}"
            )
        case RevertRequested():
            return f"{event.unit}: to be taken out again, asked by {event.by}"
        case RevertMade() if event.revert:
            return f"{event.unit}: {event.commit[:12]} is being taken out as {event.revert}"
        case RevertMade():
            return f"{event.unit}: cannot be taken out: {event.reason}"
        case CandidateEjected():
            return f"{event.unit}: rejected: {first_line(event.reason)}"
        case CandidateConflicted():
            return f"{event.unit}: conflicts in {', '.join(event.files)}"
        case FlakeSeen():
            tests = f" ({', '.join(event.failing)})" if event.failing else ""
            return f"{event.unit}: red, then green on the same tree{tests}: a flake, back in line"
        case GreenAdopted():
            return f"another mission moved green to {event.new[:12]}; going on from there"
        case Landed() if event.units:
            return f"landed {_names(event.units)}: green is {event.new[:12]}"
        case Landed():
            return f"green is {event.new[:12]}"
        case UnitEnded() if event.status != "landed":
            return f"{event.unit}: {event.status}: {first_line(event.reason)}"
        case Delivered():
            return f"delivered {event.commit[:12]} to {event.branch}"
        case DeliveryFailed():
            return f"could not deliver to {event.branch}: {first_line(event.reason)}"
        case StopRequested():
            return f"stop requested by {event.by}"
        case Warned():
            return f"warning: {event.text}"
        case MissionFinished():
            return f"finished: {event.stop_reason}; {tally(event.counts)}; {event.seconds:.1f} s"
        case _:
            return _of_rounds(event)


def _of_rounds(event: Event) -> str | None:
    match event:
        case AskStarted():
            about = f"{event.purpose} {event.node}".rstrip()
            return f"question {event.ask} ({about}) to {event.agent} started"
        case AskEnded() if event.outcome in _WITHOUT_ANSWER:
            how = f"{event.outcome}{_until(event.limited_until)}"
            return f"question {event.ask}: {how}: {first_line(event.problem)}".rstrip(": ")
        case RoundJudged():
            return _judgement(event)
        case ReplanWanted():
            units = f" ({_names(event.units)})" if event.units else ""
            return f"round {event.round}: {event.trigger}{units}; the rest is planned anew"
        case ReviewRequested() | ReviewAnswered():
            return _review(event)
        case _:
            return None


def tally(counts: Mapping[str, int]) -> str:
    """`7 landed, 1 failed`; `no units` when there are none."""
    order = ("landed", "no change", "failed", "blocked", "running", "landing", "waiting")
    shown = [f"{counts[name]} {name}" for name in order if counts.get(name)]
    return ", ".join(shown) or "no units"


def count(number: int, noun: str) -> str:
    """`1 unit`, `2 units`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(text: str) -> str:
    """The first line of a text that may have many, not longer than people read."""
    line = readable(text).strip().partition("\n")[0]
    return f"{line[:SHOWN_CHARACTERS]}…" if len(line) > SHOWN_CHARACTERS else line


def _review(event: ReviewRequested | ReviewAnswered) -> str:
    if isinstance(event, ReviewRequested):
        units = f" ({_names(event.units)})" if event.units else ""
        return f"a person is asked, {event.review}: {first_line(event.about)}{units}"
    note = f": {first_line(event.note)}" if event.note.strip() else ""
    return f"{event.review}: {event.answer} by {event.by}{note}"


def _judgement(event: RoundJudged) -> str:
    said = (("score", event.score), ("judged", event.judged))
    scores = "".join(f"{name} {value:.2f}, " for name, value in said if value is not None)
    how = "the objective is met" if event.met else "not met"
    rest = f" and {len(event.remains) - 1} more" if len(event.remains) > 1 else ""
    remains = f"; remains: {first_line(event.remains[0])}{rest}" if event.remains else ""
    return f"round {event.round}: {scores}{how}{remains}"


def _until(at: float | None) -> str:
    """Say when a limit ends, in the time of this machine; limits may last for weeks."""
    if at is None:
        return ""
    return f" until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}"


def _what(kind: str, units: Sequence[str]) -> str:
    names = _names(units)
    return f"{kind} with {names}" if names else kind


def _names(units: Sequence[str]) -> str:
    rest = len(units) - SHOWN_UNITS
    shown = ", ".join(units[:SHOWN_UNITS])
    return f"{shown} and {rest} more" if rest > 0 else shown
