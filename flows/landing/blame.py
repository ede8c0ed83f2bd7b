"""Whose fault a red tree is: its culprit's own, a flake's, or that of two good units together.

A culprit is set aside with the tree on which it was red. Questions about it are asked when the
search has nothing to do: does it pass *alone*, on the base that it was made from? Is its own red
tree red *again*? If it is good alone and red again in company, which unit that landed since is its
*partner*? Each answer is a verification; this module only says which one is needed next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.landing.flakes import own_tests
from flows.landing.search import PASSED, RED
from flows.landing.steps import Candidate, Stacked
from flows.ledger.events import (
    BaseRefused,
    CandidateClashed,
    CandidateEjected,
    CulpritCleared,
    Event,
    FlakeSeen,
    ProbeEnded,
)

LANDING = 0
"""The line that lands; others screen."""

MAX_FLAKES = 3
"""A candidate whose own tree flakes more often than this is ejected."""


@dataclass(slots=True)
class History:
    """The commits that landed, each with its unit, and which of them are values of `green`."""

    commits: list[tuple[str, str]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    _place: dict[str, int] = field(default_factory=dict)

    def land(self, landed: Sequence[Stacked], value: str) -> None:
        """Add what landed at once; `value` is what `green` is now."""
        steps = [(s.commit, s.candidate.unit) for s in landed] or [(value, "")]
        for commit, unit in steps:
            self._place[commit] = len(self.commits)
            self.commits.append((commit, unit))
        self.values.append(value)

    def between(self, base: str, tip: str) -> Sequence[tuple[str, str]]:
        """The commits after `base` up to `tip`, oldest first; none when either did not land."""
        if base not in self._place or tip not in self._place:
            return ()
        return self.commits[self._place[base] + 1 : self._place[tip] + 1]

    def below(self, commit: str) -> str:
        """The newest value of `green` that a commit is or stands on; "" when it did not land."""
        if commit not in self._place:
            return ""
        place = self._place[commit]
        return next((v for v in reversed(self.values) if self._place[v] <= place), "")


@dataclass(slots=True, kw_only=True)
class Trial:
    """A culprit merged on another commit than the one it was red on; nothing when it conflicts."""

    stacked: Stacked | None
    verdict: ProbeEnded | None = None

    @property
    def verdict_is(self) -> str:
        """`passed`, `red`, `conflict`, or empty while it is not known."""
        if self.stacked is None:
            return "conflict"
        return self.verdict.verdict if self.verdict else ""


@dataclass(slots=True, kw_only=True)
class Aside:
    """A culprit, the tree that was red with it, and what was found out since."""

    stacked: Stacked
    line: int
    below: str  # the value of `green` that its line was begun on
    red: ProbeEnded
    cleared: bool  # it passed in other company before
    again: ProbeEnded | None = None
    trials: dict[str, Trial] = field(default_factory=dict)  # by what it was merged on

    @property
    def candidate(self) -> Candidate:
        """Who is blamed."""
        return self.stacked.candidate

    @property
    def trees(self) -> set[str]:
        """The commits on which a verdict about it can come."""
        tried = (t.stacked.commit for t in self.trials.values() if t.stacked is not None)
        return {self.stacked.commit, *tried}

    def learn(self, commit: str, ended: ProbeEnded) -> None:
        """Take in a verdict on one of the trees that were asked about."""
        if ended.verdict not in {PASSED, RED}:
            return
        if commit == self.stacked.commit:
            self.again = ended
        for trial in self.trials.values():
            if trial.stacked is not None and trial.stacked.commit == commit:
                trial.verdict = ended


@dataclass(frozen=True, slots=True)
class Again:
    """Is its own red tree red once more?"""


@dataclass(frozen=True, slots=True)
class Alone:
    """Does it pass on the base that it was made from?"""

    onto: str


@dataclass(frozen=True, slots=True)
class Company:
    """Does it pass on this commit? Only asked to find its partner."""

    onto: str


@dataclass(frozen=True, slots=True)
class Found:
    """The answer."""

    event: Event


Question = Again | Alone | Company


def inquire(aside: Aside, history: History, n_flakes: int) -> Question | Found:
    """Say what has to be known next about a culprit, or what became known."""
    if (answer := _alone(aside)) is not None:
        return answer
    if aside.again is None:
        return Again()
    if aside.again.verdict == PASSED:
        return _flaked(aside, aside.again, n_flakes)
    if aside.line != LANDING and (alone := _passed_alone(aside)):
        return _cleared(aside, alone)
    suspects = history.between(aside.candidate.base, aside.stacked.onto)
    if not suspects or aside.candidate.is_base:
        return _own_fault(aside, aside.again)
    return _partner(aside, aside.again, suspects)


def _alone(aside: Aside) -> Question | Found | None:
    """Whether it is good by itself; nothing when that is known, or says nothing new."""
    candidate = aside.candidate
    if candidate.base in {"", aside.stacked.onto} or aside.cleared or candidate.is_base:
        return None
    trial = aside.trials.get(candidate.base)
    if trial is None or not trial.verdict_is:
        return Alone(candidate.base)
    if trial.verdict is None:  # it conflicts there
        return None
    if trial.verdict_is == RED:
        return _own_fault(aside, trial.verdict)
    if aside.line == LANDING or own_tests(aside.red.failing, candidate.files):
        return None  # tests of its own that failed in company may be flaky: its tree tells
    return _cleared(aside, trial.verdict)


def _passed_alone(aside: Aside) -> ProbeEnded | None:
    trial = aside.trials.get(aside.candidate.base)
    return trial.verdict if trial and trial.verdict_is == PASSED else None


def _partner(
    aside: Aside, again: ProbeEnded, suspects: Sequence[tuple[str, str]]
) -> Question | Found:
    """Search the commit with which it turns red; red on the last one is known."""
    known = [_verdict_on(aside, commit) for commit, _ in suspects]
    last = next((i for i, verdict in enumerate(known[:-1]) if verdict == RED), len(known) - 1)
    first = max((i for i in range(last) if known[i] == PASSED), default=-1)
    unknown = [i for i in range(first + 1, last) if known[i] == ""]
    if unknown:
        return Company(suspects[unknown[len(unknown) // 2]][0])
    partner = suspects[last][1]
    event = CandidateClashed(
        unit=aside.candidate.unit,
        attempt=aside.candidate.attempt,
        partner=partner,
        probe=again.probe,
        reason=_why(again),
        failing=tuple(again.failing),
    )
    return Found(event)


def _verdict_on(aside: Aside, commit: str) -> str:
    trial = aside.trials.get(commit)
    return trial.verdict_is if trial else ""


def _own_fault(aside: Aside, second: ProbeEnded) -> Found:
    candidate = aside.candidate
    if candidate.is_base:
        refused = BaseRefused(commit=candidate.head, probe=second.probe, reason=_why(second))
        return Found(refused)
    return Found(_ejected(aside, second, _why(second), second.failing))


def _flaked(aside: Aside, second: ProbeEnded, n_flakes: int) -> Found:
    """Red, then green on the same tree; its own tests must not flake, nor any too often."""
    candidate, failing = aside.candidate, tuple(aside.red.failing)
    if own := own_tests(failing, candidate.files):
        why = f"tests that it added or changed pass only sometimes: {', '.join(own)}"
        return Found(_ejected(aside, second, why, own))
    if n_flakes >= MAX_FLAKES and not candidate.is_base:
        why = f"its own tree was red, then green, {MAX_FLAKES + 1} times"
        return Found(_ejected(aside, second, why, failing))
    event = FlakeSeen(
        unit=candidate.unit,
        attempt=candidate.attempt,
        tree=aside.stacked.tree,
        red_probe=aside.red.probe,
        green_probe=second.probe,
        failing=failing,
    )
    return Found(event)


def _cleared(aside: Aside, second: ProbeEnded) -> Found:
    candidate = aside.candidate
    event = CulpritCleared(unit=candidate.unit, attempt=candidate.attempt, probe=second.probe)
    return Found(event)


def _ejected(
    aside: Aside, second: ProbeEnded, reason: str, failing: Sequence[str]
) -> CandidateEjected:
    return CandidateEjected(
        unit=aside.candidate.unit,
        attempt=aside.candidate.attempt,
        probe=second.probe,
        reason=reason,
        failing=tuple(failing),
    )


def _why(red: ProbeEnded) -> str:
    return f"{red.reason}\n{red.output}".strip()
