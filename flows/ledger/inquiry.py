"""What agents are asked and what they said: the tree of a round's plan, the judgement after it.

Part of a mission's state, folded from its events like the train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any

from flows.judging.evaluation import Judgement, judgement_from_dict
from flows.ledger.backoff import rest_seconds
from flows.ledger.events import (
    AskEnded,
    AskOutcome,
    AskStarted,
    Event,
    MissionResumed,
    MissionStarted,
    Purpose,
    ReplanWanted,
    RoundJudged,
    RoundStarted,
)
from flows.planning.answers import answer_from_dict
from flows.planning.plan import DEFAULT_AGENT
from flows.planning.tree import PlanTree

_LOST = frozenset({AskOutcome.INFRASTRUCTURE, AskOutcome.RATE_LIMITED})
_NO_ANSWER = frozenset({AskOutcome.UNUSABLE, AskOutcome.TIMED_OUT})


@dataclass(slots=True)
class Inquiry:
    """Questions under way and what the answers made so far."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    objective: str = ""
    asks: dict[int, AskStarted] = field(default_factory=dict)  # under way
    n_asks: int = 0
    faults: int = 0  # in a row; of questions under way at the same time, one
    n_before_fault: int = 0  # questions that were asked when the last fault was counted
    not_before: float = 0.0
    trouble: str = ""
    replan: int = 0  # how often the round's plan was made anew
    tree: PlanTree | None = None  # of the plan that an agent makes
    judgement: Judgement | None = None  # an agent's, of the round that ended last
    is_answered: bool = False  # whether that agent was asked and is done
    judged: list[RoundJudged] = field(default_factory=list)

    @property
    def remains(self) -> Sequence[str]:
        """What is still to be done by the last word on it."""
        return self.judged[-1].remains if self.judged else ()

    def is_judged(self, number: int) -> bool:
        """Whether this round has its judgement."""
        return bool(self.judged) and self.judged[-1].round == number

    def apply(self, event: Event, at: float) -> None:
        """Take in an event that was recorded `at` (unix seconds); in order, each once."""
        self._on(event)
        if isinstance(event, AskEnded):
            self.not_before = at + rest_seconds(self.faults) if self.faults else 0.0

    @singledispatchmethod
    def _on(self, event: Event) -> None:
        """Pass over what changes nothing here."""

    @_on.register
    def _(self, event: MissionStarted) -> None:
        self.settings, self.objective = event.settings, event.objective

    @_on.register
    def _(self, event: MissionResumed) -> None:
        self.settings, self.faults, self.not_before = event.settings, 0, 0.0

    @_on.register
    def _(self, event: RoundStarted) -> None:  # noqa: ARG002 - every round begins so
        self.replan, self.judgement, self.is_answered = 0, None, False
        self._plant()

    @_on.register
    def _(self, event: ReplanWanted) -> None:
        self.replan = event.replan
        self._plant()

    def _plant(self) -> None:
        plan = self.settings.get("plan", {})
        self.tree = None
        if plan.get("planner") == "agent":
            agents = self.settings["agents"]
            self.tree = PlanTree(
                objective=self.objective,
                max_depth=plan["max_depth"],
                max_children=plan["max_children"],
                agent=DEFAULT_AGENT if DEFAULT_AGENT in agents else plan["agent"],
            )

    @_on.register
    def _(self, event: AskStarted) -> None:
        self.asks[event.ask] = event
        self.n_asks = max(self.n_asks, event.ask)
        if event.purpose == Purpose.PLAN and self.tree is not None:
            self.tree.ask(event.node)

    @_on.register
    def _(self, event: AskEnded) -> None:
        asked = self.asks.pop(event.ask, None)
        if asked is None:
            return
        if event.outcome in _LOST:
            if event.ask > self.n_before_fault:
                self.faults, self.n_before_fault = self.faults + 1, self.n_asks
            self.trouble = f"{asked.purpose} by {asked.agent}: {event.problem}"
        elif event.outcome != AskOutcome.STOPPED:
            self.faults = 0
        if asked.purpose == Purpose.EVALUATE:
            self._evaluated(event)
        elif self.tree is not None:
            self._planned(self.tree, asked.node, event)

    def _evaluated(self, event: AskEnded) -> None:
        self.is_answered = event.outcome in _NO_ANSWER or event.outcome == AskOutcome.ANSWERED
        if event.outcome == AskOutcome.ANSWERED:
            self.judgement = judgement_from_dict(event.answer)

    def _planned(self, tree: PlanTree, node: str, event: AskEnded) -> None:
        if event.outcome == AskOutcome.ANSWERED:
            tree.take(node, answer_from_dict(event.answer))
        elif event.outcome in _NO_ANSWER:
            tree.refuse(node, event.problem)
        else:
            tree.put_back(node)

    @_on.register
    def _(self, event: RoundJudged) -> None:
        self.judged.append(event)
