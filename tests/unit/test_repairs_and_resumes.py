"""Where repairs, torn ledgers and resumes meet, nothing waits for ever and nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flows.landing.steps import Decide, Land
from flows.ledger.events import (
    CandidateConflicted,
    CandidateEjected,
    CandidateStacked,
    CulpritSetAside,
    Landed,
    LandingIntended,
    MissionResumed,
    Outcome,
    ProbeEnded,
    ProbeStarted,
    RepairEnded,
    RepairStarted,
    RoundStarted,
)
from flows.settings import MissionSettings
from tests.stories import BASE, TREE, Story, begun, planned, settings, unit

FINISHED: Mapping[str, Any] = {"green": None, "counts": {}, "seconds": 1.0}


def repairing(n_attempts: int = 3) -> MissionSettings:
    return settings(fixup={"agent": "default", "attempts": n_attempts})


def refused(story: Story, name: str) -> Story:
    """Tell that a collected unit was red on green, twice."""
    state, number = story.state, story.state.n_probes + 1
    green, attempt, commit = state.green or BASE, state.units[name].tries, f"merged-{name}"
    story.tell(
        CandidateStacked(unit=name, attempt=attempt, onto=green, commit=commit, tree=commit),
        ProbeStarted(probe=number, kind="stack", commit=commit, tree=commit, units=(name,)),
        ProbeEnded(probe=number, verdict="red"),
        CulpritSetAside(unit=name, attempt=attempt, commit=commit, tree=commit, probe=number),
    )
    return story.tell(CandidateEjected(unit=name, attempt=attempt, probe=number, reason="red"))


def repair_started(story: Story) -> str:
    """Start the repair that is decided; returns the name of its attempt."""
    (event,) = (a.event for a in story.decide() if isinstance(a, Decide))
    assert isinstance(event, RepairStarted)
    story.tell(event)
    (name,) = event.candidates
    return name


def verified(story: Story, name: str, verdict: str = "passed") -> Story:
    """Tell that a repair was collected, merged and probed, and decide on it."""
    story.attempt(name, Outcome.COLLECTED, head=f"head-{name}", tree="t", files=("x",))
    number, commit, green = story.state.n_probes + 1, f"merged-{name}", story.state.green or BASE
    story.tell(
        CandidateStacked(unit=name, attempt=1, onto=green, commit=commit, tree="t", line=-2),
        ProbeStarted(probe=number, kind="repair", commit=commit, tree="t", units=(name,)),
        ProbeEnded(probe=number, verdict=verdict),
    )
    (event,) = (a.event for a in story.decide() if isinstance(a, Decide))
    assert isinstance(event, RepairEnded)
    return story.tell(event)


# -- repairs --------------------------------------------------------------------------------------


def test_repaired_work_that_conflicts_with_what_landed_is_tried_afresh() -> None:
    story = planned(unit("a"), settings=repairing())
    refused(story.collected("a"), "a")
    verified(story, repair_started(story))
    number = story.state.units["a"].tries
    story.tell(CandidateConflicted(unit="a", attempt=number, onto=BASE, files=("x",)))
    (start,) = story.decide()
    assert (start.unit, start.attempt) == ("a", number + 1)


# -- resumes --------------------------------------------------------------------------------------


def resumed(story: Story) -> Story:
    return story.tell(MissionResumed(pid=2, settings=story.state.settings))


def landing(land: Land) -> dict[str, Any]:
    return {"new": land.new, "tree": land.tree, "probe": land.probe, "units": land.units}


def red_base(n_reds: int = 2) -> Story:
    story = begun(settings=repairing())
    for number in range(1, n_reds + 1):
        story.tell(
            ProbeStarted(probe=number, kind="base", commit=BASE, tree=TREE),
            ProbeEnded(probe=number, verdict="red"),
        )
    return story


@pytest.mark.parametrize("repaired", [True, False])
def test_the_first_landing_that_was_begun_is_brought_to_its_end(repaired: bool) -> None:
    """The ref may have moved already, so that no other verdict may lead elsewhere."""
    if repaired:
        story = red_base()
        verified(story, repair_started(story))
    else:
        story = begun().tell(
            ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
            ProbeEnded(probe=1, verdict="passed"),
        )
    (land,) = story.decide()
    what: dict[str, Any] = {
        "new": land.new,
        "tree": land.tree,
        "probe": land.probe,
        "units": land.units,
    }
    resumed(story.tell(LandingIntended(old=None, **what)))
    assert story.decide() == [land]


def test_a_stopped_repair_of_a_base_is_given_up_when_the_base_passes_after_all() -> None:
    story = red_base()
    repair = repair_started(story)
    resumed(story.attempt(repair, Outcome.STOPPED))
    assert story.starts() == []
    story.tell(
        ProbeStarted(probe=3, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=3, verdict="passed"),
    )
    (land,) = story.decide()
    assert land == Land(old="", new=BASE, tree=TREE, probe=3, units=())
    story.tell(Landed(old=None, new=BASE, tree=TREE, probe=3))
    assert story.decide() == [Decide(event=RoundStarted(round=1, green=BASE))]


def test_a_repair_of_a_base_that_runs_on_is_waited_for_after_a_resume() -> None:
    story = red_base()
    repair = repair_started(story)
    resumed(story.attempt(repair))
    assert story.decide() == []
