from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from flows.ledger.events import (
    AskEnded,
    AskStarted,
    AttemptEnded,
    Event,
    PlanMade,
    ReplanWanted,
    ReviewAnswered,
    ReviewRequested,
    RoundJudged,
)
from flows.ledger.state import MissionState
from flows.reporting.narration import SHOWN_CHARACTERS, STEPS, narrate
from tests.ledgers import records_of, two_rounds

LATER = time.mktime((2026, 3, 4, 15, 30, 0, 0, 0, -1))
"""A moment in the time of this machine."""


def ask_ended(outcome: str, problem: str = "", limited_until: float | None = None) -> AskEnded:
    return AskEnded(ask=3, outcome=outcome, problem=problem, limited_until=limited_until)


def judged(**more: Any) -> RoundJudged:
    return replace(RoundJudged(round=2, met=False, score=0.5, signals={}), **more)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ask_ended("answered"), None),
        (ask_ended("stopped"), None),
        (ask_ended("infrastructure", "host lost"), None),
        (ask_ended("unusable", "no JSON\nat all"), "question 3: unusable: no JSON"),
        (ask_ended("timed out"), "question 3: timed out"),
        (
            ask_ended("rate limited", "usage limit", LATER),
            "question 3: rate limited until 2026-03-04 15:30:00: usage limit",
        ),
        (ask_ended("rate limited"), "question 3: rate limited"),
        (judged(), "round 2: score 0.50, not met"),
        (judged(score=None), "round 2: not met"),
        (judged(met=True, judged=1.0), "round 2: score 0.50, judged 1.00, the objective is met"),
        (
            judged(judged=0.0, remains=["types", "docs", "tests"]),
            "round 2: score 0.50, judged 0.00, not met; remains: types and 2 more",
        ),
        (
            ReplanWanted(round=1, replan=1, trigger="units failed", units=["a", "b"]),
            "round 1: units failed (a, b); the rest is planned anew",
        ),
        (
            ReviewRequested(review="canary", about="Look at the first.", units=["a"]),
            "a person is asked, canary: Look at the first. (a)",
        ),
        (ReviewRequested(review="canary", about="Go on?"), "a person is asked, canary: Go on?"),
        (
            ReviewAnswered(review="canary", answer="rejected", by="ann", note="too much"),
            "canary: rejected by ann: too much",
        ),
        (
            ReviewAnswered(review="canary", answer="approved", by="ann"),
            "canary: approved by ann",
        ),
        (
            AttemptEnded(unit="a", attempt=1, outcome="rate limited", limited_until=LATER),
            "a: rate limited until 2026-03-04 15:30:00",
        ),
        (
            AttemptEnded(unit="a", attempt=1, outcome="failed", detail="exit code 1"),
            "a: failed: exit code 1",
        ),
    ],
)
def test_an_event_is_told_in_a_line(event: Event, line: str | None) -> None:
    assert narrate(event) == line


def test_a_question_is_only_a_step_and_names_the_part_of_the_plan() -> None:
    asked = AskStarted(
        ask=3,
        purpose="plan",
        round=1,
        agent="architect",
        place="local",
        slot=0,
        green="0" * 40,
        node="0.2",
    )
    assert isinstance(asked, STEPS)
    assert narrate(asked) == "question 3 (plan 0.2) to architect started"


def test_what_is_told_of_a_plan_is_what_its_answers_make() -> None:
    """The sample that the views are reckoned from is one that a mission can write."""
    state = MissionState()
    made = []
    for record in records_of(two_rounds()):
        if isinstance(record.event, PlanMade) and state.inquiry.tree:
            found = [(n.path, n.kind, n.n_units) for n in state.inquiry.tree.nodes]
            stated = [(n["path"], n["kind"], n["n_units"]) for n in record.event.nodes]
            made.append(found == stated)
        state.apply(record)
    assert made == [True] * 3
    assert state.counts == {"landed": 4, "failed": 2}
    assert state.cost_usd == pytest.approx(2.85)


def test_no_event_takes_more_than_a_line() -> None:
    lines = [line for _, event in two_rounds() if (line := narrate(event))]
    assert len(lines) > 60
    assert not [line for line in lines if "\n" in line or len(line) > 2 * SHOWN_CHARACTERS]
