"""Fix-up: refused work goes to agents that mend it; the best of what they make goes on.

Each starts from the refused work as it was, so that a failed one leaves nothing behind. What each
makes is verified by itself on top of `green`. Of those that pass, the one with the most tests
passed is taken, then the fewest findings, then the smallest change. Pure, like the train.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from flows.landing.search import PASSED, RED
from flows.landing.steps import Candidate, Decide, Merge, Probe, ProbeTree, Step
from flows.ledger.events import CandidateStacked, ProbeEnded, ProbeKind, RepairEnded

REPAIR = -2
"""The line of repairs: each is merged on `green` by itself."""

MARK = "@"
"""What follows it in a name tells a repair from the unit; no unit's own id has one."""


def names_of(unit: str, attempt: int, repair: int, n_candidates: int) -> tuple[str, ...]:
    """The names that the attempts of one repair go by."""
    return tuple(f"{unit}{MARK}{attempt}.{repair}.{k}" for k in range(1, n_candidates + 1))


@dataclass(slots=True, kw_only=True)
class Attempted:
    """What one of the agents made, as far as it is known."""

    candidate: Candidate | None = None
    stacked: CandidateStacked | None = None
    verdict: ProbeEnded | None = None
    is_lost: bool = False  # it made nothing, or what does not merge

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will be known of it."""
        return self.is_lost or self.verdict is not None

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller is better: tests passed, findings, changed lines."""
        if self.verdict is None or self.stacked is None:
            raise RuntimeError("only what was verified is ranked")
        passed = self.verdict.tests.get("passed", 0)
        return -passed, sum(self.verdict.findings.values()), self.stacked.changed_lines or 0


@dataclass(slots=True, kw_only=True)
class Repair:
    """A repair under way; `base` is the value of `green` that the refused work was made from."""

    unit: str
    number: int
    base: str
    attempted: dict[str, Attempted] = field(default_factory=dict)

    def learn(self, commit: str, ended: ProbeEnded) -> None:
        """Take in a verdict on what one of them made."""
        for each in self.attempted.values():
            made = each.stacked is not None and each.stacked.commit == commit
            if made and ended.verdict in {PASSED, RED}:
                each.verdict = ended

    def steps(
        self,
        *,
        onto: str,
        probes: Collection[Probe],
        free: int,
        next_attempt: int,
        given_up: Collection[str] = (),
    ) -> Iterator[Step]:
        """Say what to do now; `onto` is where each is verified, `free` how many probes may start.

        `next_attempt` is the number that the winner goes on as; `given_up` are not tried any more,
        but that alone refuses nothing: without a pass they are left for a resume.
        """
        left = [name for name, each in self.attempted.items() if not each.is_settled]
        if not left or (self._good and {*left} <= {*given_up}):
            yield Decide(event=self._end(next_attempt))
            return
        under_way = {probe.commit for probe in probes}
        for each in self.attempted.values():
            if each.is_settled or each.candidate is None:
                continue
            if each.stacked is None:
                yield Merge(candidate=each.candidate, onto=onto, line=REPAIR)
            elif each.stacked.commit not in under_way and free > 0:
                free -= 1
                yield _probe_of(each.stacked)

    @property
    def _good(self) -> list[tuple[str, Attempted]]:
        """Those that pass, by name."""
        tried = self.attempted.items()
        return [(name, each) for name, each in tried if each.verdict and _is_pass(each.verdict)]

    def _end(self, next_attempt: int) -> RepairEnded:
        if good := self._good:
            winner, best = min(good, key=lambda pair: pair[1].rank)
            why = f"{len(good)} of {len(self.attempted)} pass; {-best.rank[0]} tests passed"
            return RepairEnded(
                unit=self.unit,
                repair=self.number,
                winner=winner,
                attempt=next_attempt,
                reason=why,
            )
        reds = [each.verdict.reason for each in self.attempted.values() if each.verdict]
        why = "; ".join(dict.fromkeys(reds)) or "nothing was mended"
        return RepairEnded(unit=self.unit, repair=self.number, reason=why)


def _is_pass(ended: ProbeEnded) -> bool:
    return ended.verdict == PASSED


def _probe_of(stacked: CandidateStacked) -> ProbeTree:
    return ProbeTree(
        kind=ProbeKind.REPAIR,
        commit=stacked.commit,
        tree=stacked.tree,
        units=(stacked.unit,),
        below=stacked.onto,
    )
