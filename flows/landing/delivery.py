"""Delivery: what landed reaches the target's branch, soon after every landing, coalesced.

A push may take long and must not hold up the train, so one thread does it; while it pushes, newer
commits replace each other, and only the newest is pushed next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread

from blocks.errors import CannotDeliver, CommandFailed, MissionError, TargetMoved
from blocks.repository import IntegrationRepository, remote_branches
from flows.ledger.events import Delivered, DeliveryFailed, Event, Warned

SAVED_REFS = "refs/missions/saved"
"""Where tips of `green` are kept that a person gave up."""


REST_SECONDS = 1.0
"""The least time between two pushes; doubled with each failure in a row."""

LONGEST_REST_SECONDS = 300.0


@dataclass(slots=True, kw_only=True)
class Deliverer:
    """Pushes to one branch of the target; `report` gets what became of it, from its thread."""

    repository: IntegrationRepository
    url: str
    branch: str
    fallback: str
    report: Callable[[Event], None]
    also: tuple[str, ...] = ()  # refs that go along where the target takes them
    _wanted: str | None = None
    _pushed: str | None = None  # what the branch holds since our last push
    _failures: int = 0  # in a row
    _closing: bool = False
    _changed: Condition = field(default_factory=Condition)
    _thread: Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = Thread(target=self._work, name="delivery", daemon=True)
        self._thread.start()

    def deliver(self, commit: str) -> None:
        """Ask for a commit to be delivered; returns at once."""
        with self._changed:
            self._wanted = commit
            self._changed.notify()

    def close(self) -> None:
        """Deliver what is still wanted, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (commit := self._next()) is not None:
            events = self._push(commit)
            for event in events:
                self.report(event)
            self._rest(commit, failed=isinstance(events[-1], DeliveryFailed))

    def _rest(self, commit: str, *, failed: bool) -> None:
        """Landings come in bursts: the next push takes them together; a failed one is repeated."""
        with self._changed:
            self._failures = self._failures + 1 if failed else 0
            if failed and not self._closing:
                self._wanted = self._wanted or commit
            rest = min(REST_SECONDS * 2**self._failures, LONGEST_REST_SECONDS)
            self._changed.wait_for(lambda: self._closing, timeout=rest)

    def _next(self) -> str | None:
        with self._changed:
            while self._wanted is None and not self._closing:
                self._changed.wait()
            commit, self._wanted = self._wanted, None
            return commit

    def _push(self, commit: str) -> list[Event]:
        try:
            self._push_to(self.branch, commit)
        except (TargetMoved, CannotDeliver) as refusal:
            return [*self._fall_back(commit, refusal)]
        except (MissionError, CommandFailed) as error:
            return [DeliveryFailed(branch=self.branch, commit=commit, reason=str(error))]
        return [Delivered(branch=self.branch, commit=commit)]

    def _fall_back(self, commit: str, refusal: MissionError) -> list[Event]:
        """Deliver elsewhere when the branch is not to be had, and say so."""
        failed = DeliveryFailed(branch=self.branch, commit=commit, reason=str(refusal))
        if self.branch == self.fallback:
            return [failed]
        said = Warned(text=f"{refusal}; delivering to {self.fallback} instead")
        self.branch, self._pushed = self.fallback, None
        return [failed, said, *self._push(commit)]

    def _push_to(self, branch: str, commit: str) -> None:
        if self._pushed is not None:
            try:
                self.repository.push(self.url, commit, branch, old=self._pushed, also=self.also)
            except TargetMoved:
                self._pushed = None
        if self._pushed is None:
            self._push_onto(branch, remote_branches(self.url).get(branch), commit)
        self._pushed = commit

    def _push_onto(self, branch: str, old: str | None, commit: str) -> None:
        if old == commit:
            return
        if old is not None and not self._may_replace(old, commit):
            raise TargetMoved(f"{branch} at {self.url} holds {old[:12]}, which is not ours")
        self.repository.push(self.url, commit, branch, old=old, also=self.also)

    def _may_replace(self, old: str, commit: str) -> bool:
        """Only what the commit contains, or what `--restart-green` gave up and we keep."""
        given_up = self.repository.refs(SAVED_REFS).values()
        return self.repository.is_ancestor(old, commit) or old in given_up


def notes_ref(mission: str) -> str:
    """Where the notes on landed commits are; `git log --notes='missions/*'` shows them."""
    return f"refs/notes/missions/{mission}"


def fallback_branch(green: str, mission: str) -> str:
    """Where to deliver when `green` is checked out, taken, or cannot be created.

    No slash: a branch named like the first part of `green` may be what stands in the way.
    """
    return f"{green.replace('/', '-')}-{mission}"
