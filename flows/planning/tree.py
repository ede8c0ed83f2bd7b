"""The plan tree of a round: what was asked of planning agents, and what they answered.

Pure: the driver asks, hands answers in, and asks what is left to ask. It always comes to an end:
a node is asked at most twice, then it is one unit; and below `max_depth` nothing is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from flows.planning.answers import TITLE_CHARACTERS, Part, PlanAnswer, id_of
from flows.planning.plan import DEFAULT_AGENT, Unit, UnitId, plan_problems
from flows.prompts.quoting import on_one_line

ROOT = "0"
"""The path of the whole objective; its parts are `0.1`, `0.2`, …"""


class NodeState(StrEnum):
    """Where a node stands."""

    OPEN = "open"
    ASKED = "asked"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a planning agent is to be asked; `refused` is what was wrong with the answer before.

    `scope` is empty for the whole objective. `n_asked` counts how often the node was asked so far.
    """

    path: str
    depth: int
    title: str
    scope: str
    refused: str
    may_split: bool
    n_asked: int = 0


@dataclass(slots=True, kw_only=True)
class Node:
    """A scope and what became of it; `part` is what a planner before cut out, None of the root."""

    path: str
    parent: str
    depth: int
    title: str
    part: Part | None = None
    state: NodeState = NodeState.OPEN
    refused: str = ""
    n_asked: int = 0
    answer: PlanAnswer | None = None
    children: tuple[str, ...] = ()
    is_leaf_by_default: bool = False  # nobody could say how to plan it

    @property
    def scope(self) -> str:
        """What there is to plan, in words; empty for the whole objective."""
        return self.part.scope if self.part else ""

    @property
    def kind(self) -> str:
        """Whether it became `parts`, `units` or a `leaf`; empty without an answer."""
        if self.answer is None:
            return ""
        if self.is_leaf_by_default:
            return "leaf"
        return "parts" if self.children else "units"

    @property
    def n_units(self) -> int:
        """How many units it was answered with, those of its parts left out."""
        return len(self.answer.units) if self.answer else 0


@dataclass(slots=True)
class PlanTree:
    """The plan of an objective, as deep as it was planned so far; units are for `agent`."""

    objective: str
    max_depth: int = 3
    max_children: int = 5
    agent: str = DEFAULT_AGENT
    _nodes: dict[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        title = on_one_line(self.objective, TITLE_CHARACTERS)
        self._nodes = {ROOT: Node(path=ROOT, parent="", depth=0, title=title)}

    # -- questions ----------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every node has its answer."""
        return all(node.state is NodeState.ANSWERED for node in self._nodes.values())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes so far, each before its children, in plan order."""
        return tuple(self._from(ROOT))

    def node(self, path: str) -> Node:
        """Return the node with this path.

        Raises:
            KeyError: there is none.
        """
        return self._nodes[path]

    def questions(self) -> list[Question]:
        """What can be asked now, all at once, in plan order."""
        return [self._question(node) for node in self.nodes if node.state is NodeState.OPEN]

    def question(self, path: str) -> Question:
        """What is, or was, to be asked about a node.

        Raises:
            KeyError: there is none.
        """
        return self._question(self._nodes[path])

    # -- what happened; what comes late or for a node that is not there changes nothing ---------

    def ask(self, path: str) -> bool:
        """An agent is asked; say whether the question was open."""
        node = self._in_state(path, NodeState.OPEN)
        if node is None:
            return False
        node.state = NodeState.ASKED
        node.n_asked += 1
        return True

    def put_back(self, path: str) -> bool:
        """An ask was lost by no fault of an answer: it is asked again as if it had not been."""
        node = self._in_state(path, NodeState.ASKED)
        if node is None:
            return False
        node.state = NodeState.OPEN
        return True

    def take(self, path: str, answer: PlanAnswer) -> bool:
        """An answer is there; one that does not fit this tree is refused."""
        node = self._in_state(path, NodeState.ASKED)
        if node is None:
            return False
        if problem := self._misfit(node, answer):
            return self.refuse(path, problem)
        self._settle(node, answer)
        for number, part in enumerate(answer.parts, start=1):
            self._grow(node, f"{path}.{number}", part)
        return True

    def refuse(self, path: str, problem: str) -> bool:
        """An answer could not be read: it is asked once more, then it is one unit."""
        node = self._in_state(path, NodeState.ASKED)
        if node is None:
            return False
        if not node.refused:
            node.state, node.refused = NodeState.OPEN, problem or "it could not be read"
            return True
        node.refused = problem or node.refused
        node.is_leaf_by_default = True
        self._settle(node, PlanAnswer(units=(self._leaf(node),)))
        return True

    # -- within -------------------------------------------------------------------------------

    def _from(self, path: str) -> Iterator[Node]:
        waiting = [path]
        while waiting:
            node = self._nodes[waiting.pop()]
            yield node
            waiting += reversed(node.children)

    def _in_state(self, path: str, state: NodeState) -> Node | None:
        node = self._nodes.get(path)
        return node if node is not None and node.state is state else None

    def _question(self, node: Node) -> Question:
        return Question(
            path=node.path,
            depth=node.depth,
            title=node.title,
            scope=node.scope,
            refused=node.refused,
            may_split=self._may_split(node),
            n_asked=node.n_asked,
        )

    def _may_split(self, node: Node) -> bool:
        return node.depth < self.max_depth

    def _misfit(self, node: Node, answer: PlanAnswer) -> str:
        """Why an answer cannot be taken that was read for another tree."""
        if answer.parts and answer.units:
            return "units, parts: both are there; give one of them"
        if answer.parts and not self._may_split(node):
            return "parts: it is not divided further; give units"
        if max(len(answer.parts), len(answer.units)) > self.max_children:
            return f"too many units or parts; give at most {self.max_children}"
        agents = {unit.agent for unit in answer.units}
        problems = plan_problems(answer.units, agents=agents) if answer.units else ()
        return "".join(f"\n{problem}" for problem in problems)

    def _settle(self, node: Node, answer: PlanAnswer) -> None:
        node.state, node.answer = NodeState.ANSWERED, answer

    def _grow(self, parent: Node, path: str, part: Part) -> None:
        self._nodes[path] = Node(
            path=path, parent=parent.path, depth=parent.depth + 1, title=part.title, part=part
        )
        parent.children += (path,)

    def _leaf(self, node: Node) -> Unit:
        name = node.part.id if node.part else id_of(node.title)
        return Unit(
            id=UnitId(name or "objective"),
            title=node.title,
            prompt=node.scope or self.objective,
            agent=self.agent,
        )
