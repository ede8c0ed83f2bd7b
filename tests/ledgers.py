"""Ledgers of missions that never ran: one small enough to reckon with by hand, and busy ones."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha1
from pathlib import Path

from flows.landing.dispatch import next_steps
from flows.landing.steps import (
    CancelProbe,
    Candidate,
    Decide,
    Land,
    Merge,
    ProbeTree,
)
from flows.landing.train import Train
from flows.ledger.events import (
    AskEnded,
    AskStarted,
    AttemptEnded,
    AttemptStarted,
    CandidateConflicted,
    CandidateEjected,
    CandidateStacked,
    CulpritSetAside,
    Delivered,
    DeliveryFailed,
    Event,
    FlakeSeen,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionInterrupted,
    MissionResumed,
    MissionStarted,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    RepairEnded,
    RepairStarted,
    ReplanWanted,
    RoundEnded,
    RoundJudged,
    RoundStarted,
    UnitEnded,
    Warned,
)
from flows.ledger.log import Record, encode

START = 1_700_000_000.0
"""When these missions begin, in seconds since the epoch."""

Told = tuple[int, int, int, int]
"""What an agent tells of itself: turns, tokens in, tokens out, tokens from a cache."""

Timed = tuple[float, Event]
"""An event, and when it is recorded in seconds after the mission began."""


def records_of(events: Iterable[Timed]) -> list[Record]:
    """Number the events."""
    return [Record(seq, START + at, event) for seq, (at, event) in enumerate(events, start=1)]


def write_ledger(missions_folder: Path, mission: str, events: Iterable[Timed]) -> Path:
    """Write a mission's whole ledger where `sync` finds it."""
    path = missions_folder / mission / "ledger.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(encode(record) for record in records_of(events)))
    return path


def settings(slots: int) -> Mapping[str, object]:
    """As much of a mission file as metrics look at."""
    agent = {"profile": "claude", "model": "opus"}
    return {"backend": {"kind": "local", "slots": slots}, "agents": {"default": agent}}


def started(mission: str, slots: int, repository: str = "/srv/acme") -> MissionStarted:
    """How a mission begins."""
    return MissionStarted(
        mission=mission,
        name="tidy-acme",
        objective="No lint findings, typed public functions, tests stay green.",
        repository=repository,
        base_branch="main",
        base=sha("base"),
        green_branch="mission/green",
        start=sha("base"),
        settings=settings(slots),
        version="0.1.0",
    )


def sha(text: str) -> str:
    """Make a commit id of a name for it."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def unit(name: str, *depends_on: str) -> Mapping[str, object]:
    """Describe a unit as a plan does."""
    return {"id": name, "title": f"Tidy {name}", "prompt": "…", "depends_on": [*depends_on]}


def begun(
    name: str, attempt: int, slot: int, base: str = "base", agent: str = "default"
) -> AttemptStarted:
    """Start an attempt on this machine."""
    return AttemptStarted(
        unit=name, attempt=attempt, base=sha(base), agent=agent, place="local", slot=slot
    )


def ended(
    name: str,
    attempt: int,
    outcome: str = "collected",
    *,
    agent_seconds: float = 8.0,
    cost_usd: float | None = None,
    detail: str = "",
    told: Told | None = None,
    limited_until: float | None = None,
) -> AttemptEnded:
    """End an attempt; what is proven and collected follows from the outcome."""
    turns, tokens_in, tokens_out, tokens_cached = told or (None, None, None, None)
    return AttemptEnded(
        unit=name,
        attempt=attempt,
        outcome=outcome,
        head=sha(f"{name}/{attempt}") if outcome == "collected" else None,
        files=[f"src/{name}.py"] if outcome == "collected" else [],
        detail=detail,
        proven=outcome == "no change",
        exit_code=1 if outcome == "failed" else 0,
        agent_seconds=agent_seconds,
        prepare_seconds=1.0,
        collect_seconds=1.0,
        cpu_seconds=agent_seconds / 2,
        peak_memory_bytes=200_000_000,
        output_bytes=12_345,
        cost_usd=cost_usd,
        turns=turns,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cached_tokens=tokens_cached,
        limited_until=limited_until,
    )


def asking(
    number: int,
    purpose: str,
    agent: str,
    *,
    in_round: int = 1,
    node: str = "",
    replan: int = 0,
    slot: int = 0,
) -> AskStarted:
    """Ask an agent on this machine."""
    return AskStarted(
        ask=number,
        purpose=purpose,
        round=in_round,
        agent=agent,
        place="local",
        slot=slot,
        green=sha("base"),
        node=node,
        replan=replan,
    )


def answered(
    number: int,
    agent_seconds: float,
    cost_usd: float | None = None,
    told: Told | None = None,
    *,
    answer: Mapping[str, object] | None = None,
    outcome: str = "answered",
    problem: str = "",
    limited_until: float | None = None,
) -> AskEnded:
    """End a question, by an answer unless the outcome says otherwise."""
    turns, tokens_in, tokens_out, tokens_cached = told or (None, None, None, None)
    return AskEnded(
        ask=number,
        outcome=outcome,
        answer=answer or {},
        problem=problem,
        exit_code=0,
        agent_seconds=agent_seconds,
        cpu_seconds=agent_seconds / 4,
        cost_usd=cost_usd,
        session=f"session-{number}",
        turns=turns,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cached_tokens=tokens_cached,
        limited_until=limited_until,
    )


def divided(*titles: str) -> Mapping[str, object]:
    """Answer with parts."""
    names = [title.lower().replace(" ", "-") for title in titles]
    parts = [
        {"id": name, "title": title, "scope": f"All of it: {title}", "depends_on": []}
        for name, title in zip(names, titles, strict=True)
    ]
    return {"units": [], "parts": parts}


def wanted(*units: Mapping[str, object]) -> Mapping[str, object]:
    """Answer with units."""
    return {"units": [*units], "parts": []}


def stacked(name: str, attempt: int, onto: str, commit: str, line: int = 0) -> CandidateStacked:
    """Merge a candidate on top of a commit; commits go by their names here."""
    return CandidateStacked(
        unit=name,
        attempt=attempt,
        onto=sha(onto),
        commit=sha(commit),
        tree=sha(f"{commit}^{{}}"),
        line=line,
    )


def probing(number: int, commit: str, *units: str, kind: str = "stack") -> ProbeStarted:
    """Begin to verify a commit."""
    return ProbeStarted(
        probe=number, kind=kind, commit=sha(commit), tree=sha(f"{commit}^{{}}"), units=units
    )


def verdict(number: int, *failing: str) -> ProbeEnded:
    """Pass, or be red when tests fail."""
    return ProbeEnded(
        probe=number,
        verdict="red" if failing else "passed",
        reason=f"{len(failing)} failed" if failing else "",
        failing=failing,
        exit_code=1 if failing else 0,
        seconds=9.0,
        prepare_seconds=1.0,
        tests={"passed": 120 - len(failing), "failed": len(failing)},
        findings={"ruff": 3},
        coverage=0.8,
        place="local",
    )


def landing(number: int, old: str | None, new: str, *units: str) -> Sequence[Event]:
    """Move `green`, intent first."""
    before = sha(old) if old else None
    tree = sha(f"{new}^{{}}")
    return (
        LandingIntended(old=before, new=sha(new), tree=tree, probe=number, units=units),
        Landed(old=before, new=sha(new), tree=tree, probe=number, units=units),
    )


def small_mission(mission: str = "m1") -> list[Timed]:
    """Six units on two slots: three land, one needs no change, one fails and blocks another.

    `b` fails once, then conflicts, then lands; `c` is taken for a culprit by a flaky test; the
    driver is interrupted for 100 s while `e` runs and goes on with four slots.
    """
    plan = [unit("a"), unit("b"), unit("c", "a"), unit("d"), unit("e"), unit("f", "e")]
    delivered = Delivered(branch="mission/green", commit=sha("ca1"))
    refused = DeliveryFailed(branch="mission/green", commit=sha("cb3"), reason="no route to host")
    clash = ("src/x.py", "src/y.py")
    script: list[tuple[float, Sequence[Event]]] = [
        (0, [started(mission, slots=2), probing(1, "base", kind="base")]),
        (10, [verdict(1), *landing(1, None, "base"), RoundStarted(round=1, green=sha("base"))]),
        (12, [PlanMade(round=1, planner="file", units=plan, notes=["e looks hard"], seconds=2.0)]),
        (12, [begun("a", 1, 0), begun("b", 1, 1)]),
        (22, [ended("a", 1, cost_usd=0.5), stacked("a", 1, "base", "ca1")]),
        (22, [probing(2, "ca1", "a"), begun("d", 1, 0)]),
        (32, [ended("d", 1, "no change", cost_usd=0.1), UnitEnded(unit="d", status="no change")]),
        (32, [verdict(2), *landing(2, "base", "ca1", "a"), UnitEnded(unit="a", status="landed")]),
        (32, [delivered, begun("c", 1, 0, "ca1")]),
        (42, [ended("b", 1, "failed", cost_usd=0.2, detail="exit code 1: no module | acme")]),
        (44, [begun("b", 2, 1, "ca1")]),
        (52, [ended("c", 1, cost_usd=0.3), stacked("c", 1, "ca1", "cc1"), probing(3, "cc1", "c")]),
        (54, [ended("b", 2)]),
        (54, [CandidateConflicted(unit="b", attempt=2, onto=sha("cc1"), files=clash[:1])]),
        (62, [verdict(3, "t::one"), aside("c", "cc1", 3), probing(4, "cc1", "c", kind="confirm")]),
        (62, [CandidateConflicted(unit="b", attempt=2, onto=sha("ca1"), files=clash)]),
        (64, [begun("b", 3, 1, "ca1")]),
        (72, [verdict(4), flake("c", "cc1", 3, 4, "t::one"), stacked("c", 1, "ca1", "cc2")]),
        (72, [probing(5, "cc2", "c")]),
        (74, [ended("b", 3, cost_usd=0.4)]),
        (82, [verdict(5), *landing(5, "ca1", "cc2", "c"), UnitEnded(unit="c", status="landed")]),
        (82, [stacked("b", 3, "cc2", "cb3"), probing(6, "cb3", "b")]),
        (92, [verdict(6), *landing(6, "cc2", "cb3", "b"), UnitEnded(unit="b", status="landed")]),
        (92, [refused, Warned(text="the target is not reachable"), begun("e", 1, 0, "cb3")]),
        (100, [MissionInterrupted(reason="SIGTERM")]),
        (200, [MissionResumed(pid=4711, settings=settings(4), changed=["backend.slots"])]),
        (202, [ended("e", 1, "infrastructure", detail="host lost"), begun("e", 2, 0, "cb3")]),
        (212, [ended("e", 2, cost_usd=0.1), stacked("e", 2, "cb3", "ce2"), probing(7, "ce2", "e")]),
        (222, [verdict(7, "t::two"), aside("e", "ce2", 7, 2)]),
        (222, [probing(8, "ce2", "e", kind="confirm")]),
        (232, [verdict(8, "t::two"), ejected("e", 2, 8, "t::two")]),
        (232, [UnitEnded(unit="e", status="failed", reason="rejected: 1 failed")]),
        (232, [UnitEnded(unit="f", status="blocked", reason="depends on e")]),
        (232, [Delivered(branch="mission/green", commit=sha("cb3"))]),
        (232, [RoundEnded(round=1, landed=4, not_landed=2, green=sha("cb3"))]),
        (232, [finished("cb3", landed=3, no_change=1, failed=1, blocked=1, cost_usd=1.6)]),
    ]
    return [(at, event) for at, events in script for event in events]


def aside(name: str, commit: str, probe: int, attempt: int = 1) -> CulpritSetAside:
    """Set a candidate aside."""
    tree = sha(f"{commit}^{{}}")
    return CulpritSetAside(unit=name, attempt=attempt, commit=sha(commit), tree=tree, probe=probe)


def flake(name: str, commit: str, red: int, green: int, *failing: str) -> FlakeSeen:
    """Find the verification to contradict itself."""
    return FlakeSeen(
        unit=name,
        attempt=1,
        tree=sha(f"{commit}^{{}}"),
        red_probe=red,
        green_probe=green,
        failing=failing,
    )


def ejected(name: str, attempt: int, probe: int, *failing: str) -> CandidateEjected:
    """Reject a candidate that was red twice."""
    return CandidateEjected(
        unit=name, attempt=attempt, probe=probe, reason="1 failed", failing=failing
    )


def finished(
    green: str, *, landed: int, no_change: int, failed: int, blocked: int, cost_usd: float
) -> MissionFinished:
    """How a mission ends that has units left which did not land."""
    counts = {"landed": landed, "no change": no_change, "failed": failed, "blocked": blocked}
    return MissionFinished(
        stop_reason="nothing left to do",
        exit_code=1 if failed or blocked else 0,
        green=sha(green),
        counts=counts,
        seconds=132.0,
        cost_usd=cost_usd,
    )


def two_rounds(mission: str = "m2") -> list[Timed]:
    """A mission that agents plan and judge: two rounds on two slots, until the objective is met.

    In round 1 one part's first answer is unusable and another part has none at all; `b` meets a
    rate limit, `d` is blocked, so that the rest is planned anew; `c` and `e` are repaired at the
    same time, of which `c` lands. In round 2 the planner meets a limit, and nobody drives the
    mission for 500 s while `g` runs.
    """
    first, second = sha("c/1"), sha("e/1")
    in_c, in_e = ("c@1.1.1", "c@1.1.2"), ("e@1.1.1",)
    tree = [
        node("0", "parts", "Tidy everything"),
        node("0.1", "units", "Lint", n_units=2),
        node("0.2", "parts", "Types"),
        node("0.2.1", "units", "Types of zones", n_units=1),
        node("0.2.2", "leaf", "Types of weights", n_units=1),
    ]
    units = [unit("a"), unit("b"), unit("c", "a"), unit("d")]
    rest = [unit("b"), unit("e")]
    script: list[tuple[float, Sequence[Event]]] = [
        (0, [planned_by_agents(mission), probing(1, "base", kind="base")]),
        (10, [verdict(1), *landing(1, None, "base"), RoundStarted(round=1, green=sha("base"))]),
        (10, [asking(1, "plan", "architect", node="0")]),
        (20, [answered(1, 8, 0.1, (2, 1000, 100, 500), answer=divided("Lint", "Types"))]),
        (20, [asking(2, "plan", "architect", node="0.1")]),
        (20, [asking(3, "plan", "architect", node="0.2", slot=1)]),
        (26, [unusable(2, 5, "no line starts with MISSION_PLAN:", 0.05, (1, 900, 50, 0))]),
        (26, [asking(4, "plan", "architect", node="0.1")]),
        (30, [answered(3, 9, answer=divided("Types of zones", "Types of weights"))]),
        (30, [asking(5, "plan", "architect", node="0.2.1", slot=1)]),
        (30, [asking(6, "plan", "architect", node="0.2.2", slot=2)]),
        (32, [unusable(6, 1, "no JSON"), asking(7, "plan", "architect", node="0.2.2", slot=2)]),
        (36, [answered(4, 9, 0.05, (1, 900, 60, 0), answer=wanted(unit("a"), unit("b")))]),
        (38, [answered(5, 7, 0.05, (1, 800, 40, 400), answer=wanted(unit("c")))]),
        (39, [answered(7, 6, outcome="timed out")]),
        (40, [PlanMade(round=1, planner="agent", units=units, nodes=tree, seconds=30.0)]),
        (40, [begun("a", 1, 0), begun("b", 1, 1)]),
        (50, [ended("a", 1, cost_usd=0.5, told=(6, 5000, 600, 4000))]),
        (50, [stacked("a", 1, "base", "ca1"), probing(2, "ca1", "a"), begun("d", 1, 0)]),
        (52, [limited("b", 1, until=82)]),
        (60, [verdict(2), *landing(2, "base", "ca1", "a"), UnitEnded(unit="a", status="landed")]),
        (60, [begun("c", 1, 1, "ca1")]),
        (62, [ended("d", 1, "failed", cost_usd=0.2, detail="blocked: weights are not there")]),
        (62, [UnitEnded(unit="d", status="failed", reason="blocked: weights are not there")]),
        (62, [ReplanWanted(round=1, replan=1, trigger="agent blocked", units=["d"])]),
        (62, [asking(8, "plan", "architect", node="0", replan=1)]),
        (70, [ended("c", 1, cost_usd=0.3), stacked("c", 1, "ca1", "cc1"), probing(3, "cc1", "c")]),
        (74, [answered(8, 11, 0.2, (3, 2000, 200, 1000), answer=wanted(*rest))]),
        (76, [replanned(rest), begun("e", 1, 0, "ca1")]),
        (80, [verdict(3, "t::one"), aside("c", "cc1", 3), probing(4, "cc1", "c", kind="confirm")]),
        (82, [begun("b", 2, 1, "ca1")]),
        (86, [ended("e", 1, cost_usd=0.1), stacked("e", 1, "ca1", "ce1"), probing(5, "ce1", "e")]),
        (90, [verdict(4, "t::one"), ejected("c", 1, 4, "t::one"), repairing("c", first, in_c)]),
        (90, [begun(in_c[0], 1, 0, "ca1", "mender")]),
        (92, [ended("b", 2, cost_usd=0.4), stacked("b", 2, "ce1", "cb2")]),
        (92, [begun(in_c[1], 1, 1, "ca1", "mender")]),
        (96, [verdict(5, "t::two"), aside("e", "ce1", 5), probing(6, "ce1", "e", kind="confirm")]),
        (96, [stacked("b", 2, "ca1", "cb3"), probing(7, "cb3", "b")]),
        (100, [ended(in_c[0], 1, "failed", detail="exit code 1")]),
        (102, [ended(in_c[1], 1, cost_usd=0.25)]),
        (106, [verdict(6, "t::two"), ejected("e", 1, 6, "t::two"), repairing("e", second, in_e)]),
        (106, [verdict(7), *landing(7, "ca1", "cb3", "b"), UnitEnded(unit="b", status="landed")]),
        (106, [begun(in_e[0], 1, 0, "cb3", "mender")]),
        (106, [stacked(in_c[1], 1, "cb3", "cm1", line=-2), probing(8, "cm1", "c", kind="repair")]),
        (116, [verdict(8), RepairEnded(unit="c", repair=1, winner=in_c[1], attempt=2)]),
        (116, [stacked("c", 2, "cb3", "cc2"), probing(9, "cc2", "c")]),
        (124, [ended(in_e[0], 1, "timed out", agent_seconds=16.0, cost_usd=0.15)]),
        (124, [RepairEnded(unit="e", repair=1, reason="nothing was mended")]),
        (124, [UnitEnded(unit="e", status="failed", reason="rejected: 1 failed")]),
        (126, [verdict(9), *landing(9, "cb3", "cc2", "c"), UnitEnded(unit="c", status="landed")]),
        (126, [RoundEnded(round=1, landed=3, not_landed=2, green=sha("cc2"))]),
        (126, [asking(9, "evaluate", "judge")]),
        (140, [judging(9, 13, 0.12, (4, 3000, 150, 2000), judged_first()), judged_first()]),
        (140, [RoundStarted(round=2, green=sha("cc2"))]),
        (140, [asking(10, "plan", "architect", in_round=2, node="0")]),
        (146, [answered(10, 4, outcome="rate limited", limited_until=START + 156)]),
        (156, [asking(11, "plan", "architect", in_round=2, node="0")]),
        (164, [answered(11, 7, 0.1, (1, 1000, 80, 900), answer=wanted(unit("g")))]),
        (166, [replanned([unit("g")], in_round=2, replan=0, seconds=26.0)]),
        (166, [begun("g", 1, 0, "cc2")]),
        (170, [MissionInterrupted(reason="SIGTERM")]),
        (670, [MissionResumed(pid=4711, settings=settings_of_roles())]),
        (672, [ended("g", 1, "infrastructure", agent_seconds=0.0, detail="host lost")]),
        (672, [begun("g", 2, 0, "cc2")]),
        (682, [ended("g", 2, cost_usd=0.2), stacked("g", 2, "cc2", "cg2")]),
        (682, [probing(10, "cg2", "g")]),
        (692, [verdict(10), *landing(10, "cc2", "cg2", "g")]),
        (692, [UnitEnded(unit="g", status="landed")]),
        (692, [RoundEnded(round=2, landed=1, not_landed=0, green=sha("cg2"))]),
        (692, [asking(12, "evaluate", "judge", in_round=2)]),
        (700, [judging(12, 7, 0.08, (2, 3000, 120, 2500), judged_second()), judged_second()]),
        (700, [Delivered(branch="mission/green", commit=sha("cg2")), met("cg2", cost_usd=2.85)]),
    ]
    return [(at, event) for at, events in script for event in events]


ROLES: Mapping[str, object] = {
    "plan": {"planner": "agent", "agent": "architect", "max_depth": 3, "max_children": 5},
    "fixup": {"agent": "mender", "attempts": 1, "candidates": 2},
    "evaluate": {"agent": "judge"},
}
"""Which agents are asked for what, as far as a fold looks at it."""


def planned_by_agents(mission: str) -> MissionStarted:
    """How a mission begins that is planned, repaired and judged by agents of their own."""
    return replace(started(mission, slots=2), settings=settings_of_roles())


def settings_of_roles() -> Mapping[str, object]:
    """As much of a mission file as metrics and folds look at."""
    names = ("default", "architect", "mender", "judge")
    agents = {name: {"profile": "claude", "model": "opus"} for name in names}
    return {**settings(2), **ROLES, "agents": agents}


def node(path: str, kind: str, title: str, n_units: int = 0) -> Mapping[str, object]:
    """Describe a part of an agent's plan."""
    return {
        "path": path,
        "parent": path.rpartition(".")[0],
        "depth": path.count("."),
        "title": title,
        "kind": kind,
        "n_units": n_units,
    }


def replanned(
    units: Sequence[Mapping[str, object]],
    *,
    in_round: int = 1,
    replan: int = 1,
    seconds: float = 14.0,
) -> PlanMade:
    """Make a plan that is not divided."""
    root = node("0", "units", "Tidy the rest", n_units=len(units))
    return PlanMade(
        round=in_round, planner="agent", units=units, nodes=[root], seconds=seconds, replan=replan
    )


def unusable(
    number: int,
    agent_seconds: float,
    problem: str,
    cost_usd: float | None = None,
    told: Told | None = None,
) -> AskEnded:
    """End a question by an answer that cannot be read."""
    return answered(number, agent_seconds, cost_usd, told, outcome="unusable", problem=problem)


def limited(name: str, attempt: int, until: float) -> AttemptEnded:
    """End an attempt because the account is out of quota, until so long after the start."""
    return ended(
        name,
        attempt,
        "rate limited",
        agent_seconds=2.0,
        detail="usage limit reached",
        limited_until=START + until,
    )


def repairing(name: str, head: str, candidates: Sequence[str]) -> RepairStarted:
    """Start fix-up agents on refused work."""
    return RepairStarted(
        unit=name, repair=1, head=head, base=sha("ca1"), reason="1 failed", candidates=candidates
    )


def judging(
    number: int, agent_seconds: float, cost_usd: float, told: Told, judged: RoundJudged
) -> AskEnded:
    """End a question by the word that a judgement has from it."""
    answer = {
        "score": judged.judged,
        "met": judged.met,
        "remains": [*judged.remains],
        "summary": judged.summary,
    }
    return answered(number, agent_seconds, cost_usd, told, answer=answer)


def judged_first() -> RoundJudged:
    """Find that much remains."""
    return RoundJudged(
        round=1,
        met=False,
        score=0.55,
        signals={"units": 0.6, "tests": 1.0, "findings": 0.05},
        findings={"lint": 12, "types": 3},
        judged=0.4,
        remains=["types in zones.py", "weights have no tests"],
        summary="Half way.",
    )


def judged_second() -> RoundJudged:
    """Find the objective met."""
    return RoundJudged(
        round=2,
        met=True,
        score=0.97,
        signals={"units": 1.0, "tests": 1.0, "findings": 0.9},
        findings={"lint": 2, "security": 1},
        judged=0.9,
        summary="Done but for trifles.",
    )


def met(green: str, *, cost_usd: float) -> MissionFinished:
    """How a mission ends that reached its objective, with two units that failed on the way."""
    return MissionFinished(
        stop_reason="objective met",
        exit_code=0,
        green=sha(green),
        counts={"landed": 4, "failed": 2},
        seconds=200.0,
        cost_usd=cost_usd,
    )


def busy_mission(
    mission: str = "busy",
    *,
    n_units: int = 40,
    slots: int = 6,
    probe_slots: int = 2,
    bad_share: float = 0.15,
    seed: int = 1,
) -> list[Timed]:
    """A mission with the real merge train and invented agents: retries, culprits, flakes."""
    return list(_Busy(mission, n_units, slots, probe_slots, bad_share, random.Random(seed)).run())


@dataclass
class _Busy:
    mission: str
    n_units: int
    slots: int
    probe_slots: int
    bad_share: float
    chance: random.Random
    now: float = 0.0
    train: Train = field(default_factory=Train)
    due: list[tuple[float, int, Event]] = field(default_factory=list)
    contents: dict[str, frozenset[Candidate]] = field(default_factory=dict)
    bad: set[Candidate] = field(default_factory=set)
    tries: dict[str, int] = field(default_factory=dict)
    satisfied: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    lanes: dict[int, str] = field(default_factory=dict)
    n_probes: int = 0

    def run(self) -> Iterator[Timed]:
        names = [f"unit-{i:02d}" for i in range(1, self.n_units + 1)]
        self.needs = {n: [names[i // 3]] if i % 3 == 2 else [] for i, n in enumerate(names)}
        self.waiting = list(names)
        yield from self._record(started(self.mission, self.slots))
        yield from self._record(*landing(0, None, "base"), RoundStarted(round=1, green=sha("base")))
        plan = [unit(n, *(d for d in self.needs[n] if d != n)) for n in names]
        yield from self._record(PlanMade(round=1, planner="file", units=plan))
        while True:
            yield from self._act()
            if not self.due:
                break
            self.now, _, event = heapq.heappop(self.due)
            yield from self._happen(event)
        for name in self.waiting:
            yield from self._record(UnitEnded(unit=name, status="blocked", reason="depends on …"))
        yield from self._record(
            RoundEnded(
                round=1,
                landed=len(self.satisfied),
                not_landed=self.n_units - len(self.satisfied),
                green=self.train.green,
            ),
            MissionFinished(
                stop_reason="nothing left to do",
                exit_code=1,
                green=self.train.green,
                counts={"landed": len(self.satisfied)},
                seconds=self.now,
            ),
        )

    def _record(self, *events: Event) -> Iterator[Timed]:
        for event in events:
            self.train.apply(event)
            yield self.now, event

    def _later(self, seconds: float, event: Event) -> None:
        heapq.heappush(self.due, (self.now + seconds, len(self.due) + self.n_probes * 1000, event))

    def _act(self) -> Iterator[Timed]:
        while steps := next_steps(
            self.train,
            free_probes=self.probe_slots - len(self.train.probes),
            slots=self.probe_slots,
        ):
            for step in steps:
                yield from self._perform(step)
        for name in [n for n in self.waiting if self._is_ready(n)][: self.slots - len(self.lanes)]:
            self.waiting.remove(name)
            yield from self._start(name)

    def _is_ready(self, name: str) -> bool:
        return all(d == name or d in self.satisfied for d in self.needs[name])

    def _start(self, name: str) -> Iterator[Timed]:
        slot = next(i for i in range(self.slots) if i not in self.lanes)
        self.lanes[slot] = name
        self.tries[name] = attempt = self.tries.get(name, 0) + 1
        yield from self._record(begun(name, attempt, slot))
        took = self.chance.lognormvariate(4.2, 0.5)
        outcome = self.chance.choices(("collected", "failed", "timed out"), (0.9, 0.07, 0.03))[0]
        cost = round(took / 300, 3)
        self._later(took, ended(name, attempt, outcome, agent_seconds=took - 3, cost_usd=cost))

    def _perform(self, step: object) -> Iterator[Timed]:
        match step:
            case Merge(candidate=c, onto=onto, line=line):
                commit = sha(f"{c.unit}/{c.attempt}/{onto}")
                self.contents[commit] = self.contents.get(onto, frozenset()) | {c}
                if self.chance.random() < 0.04:
                    yield from self._conflict(c, onto)
                    return
                yield from self._record(
                    CandidateStacked(
                        unit=c.unit,
                        attempt=c.attempt,
                        onto=onto,
                        commit=commit,
                        tree=sha(commit),
                        line=line,
                    )
                )
            case ProbeTree(kind=kind, commit=commit, tree=tree, units=units):
                self.n_probes += 1
                yield from self._record(
                    ProbeStarted(
                        probe=self.n_probes, kind=kind, commit=commit, tree=tree, units=units
                    )
                )
                is_red = self.contents.get(commit, frozenset()) & self.bad
                flaky = self.chance.random() < 0.06
                failing = ["tests/test_zones.py::test_all"] if is_red or flaky else []
                self._later(self.chance.uniform(14, 22), verdict(self.n_probes, *failing))
            case CancelProbe(number=number):
                yield from self._record(
                    ProbeEnded(probe=number, verdict="not a run", reason="no longer needed")
                )
            case Land(old=old, new=new, tree=tree, probe=probe, units=units):
                yield from self._record(
                    LandingIntended(old=old, new=new, tree=tree, probe=probe, units=units),
                    Landed(old=old, new=new, tree=tree, probe=probe, units=units),
                )
                for name in units:
                    self.satisfied.add(name)
                    yield from self._record(UnitEnded(unit=name, status="landed"))
            case Decide(event=event):
                yield from self._record(event)
                if isinstance(event, CandidateEjected):
                    yield from self._put_back(event.unit, "rejected")

    def _conflict(self, c: Candidate, onto: str) -> Iterator[Timed]:
        is_final = onto == self.train.green
        yield from self._record(
            CandidateConflicted(unit=c.unit, attempt=c.attempt, onto=onto, files=["src/zones.py"])
        )
        if is_final:
            yield from self._put_back(c.unit, "conflicts")

    def _put_back(self, name: str, reason: str) -> Iterator[Timed]:
        if self.tries[name] < 3:
            self.waiting.insert(0, name)
        else:
            self.failed.add(name)
            yield from self._record(UnitEnded(unit=name, status="failed", reason=reason))

    def _happen(self, event: Event) -> Iterator[Timed]:
        if isinstance(event, ProbeEnded):
            if event.probe in self.train.probes:
                yield from self._record(event)
            return
        if not isinstance(event, AttemptEnded):
            return
        self.lanes = {slot: name for slot, name in self.lanes.items() if name != event.unit}
        yield from self._record(event)
        if event.outcome != "collected":
            yield from self._put_back(event.unit, event.outcome)
            return
        candidate = Candidate(unit=event.unit, attempt=event.attempt, head=event.head or "")
        if self.chance.random() < self.bad_share:
            self.bad.add(candidate)
        self.train.enqueue(candidate)
