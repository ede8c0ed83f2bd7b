"""Prompts: what each kind of agent is told, as a record, and the record as Markdown.

The templates beside this module hold the words. What people decide (the task, where it may write,
how it is verified, what it may cost) stands in them as it is; what agents, tests and other people
wrote stands in them as quoted data (`flows.prompts.quoting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from flows.human_input import format_duration
from flows.prompts.instructions import Instruction
from flows.prompts.quoting import closed, on_one_line, quoted, readable

RESULT_MARK = "MISSION_RESULT:"
PLAN_MARK = "MISSION_PLAN:"
EVALUATION_MARK = "MISSION_EVALUATION:"
REVIEW_MARK = "MISSION_REVIEW:"

CAUSE_CHARACTERS = 8_000
MEMORY_CHARACTERS = 4_000
DISCOVERY_CHARACTERS = 4_000
DEPENDENCY_CHARACTERS = 4_000
READING_CHARACTERS = 6_000
TREE_CHARACTERS = 12_000
DIFF_CHARACTERS = 40_000

FILES_SHOWN = 20
"""Of a dependency; what is beyond is counted."""

_PATH_CHARACTERS = 200
_TITLE_CHARACTERS = 200
_COMMIT_CHARACTERS = 12
_LINE_CHARACTERS = 500


class Trouble(StrEnum):
    """What kept work from landing, as far as it changes what is advised."""

    RED = "red"  # it was refused by something that was run, or did not come that far
    CONFLICT = "conflict"  # it does not merge with what landed
    CLASH = "clash"  # it merges, is good by itself, and is red together with `partner`


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why the last attempt did not land; `text` holds reason, output or hunks."""

    text: str
    trouble: Trouble = Trouble.RED
    partner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedDependency:
    """A unit that the work at hand builds on; without `commit` it had nothing to change."""

    unit: str
    title: str
    commit: str = ""
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How work is judged: `command` on the whole, `unit` before that on the unit's own result."""

    command: str
    unit: str = ""
    may_remove_tests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an attempt may take."""

    seconds: float
    max_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrompt:
    """What every agent is told that changes files; `memory` has a line an entry, newest first.

    `writes` None means anywhere but `protected`.
    """

    title: str
    prompt: str
    verification: Verification
    budget: Budget
    writes: Sequence[str] | None = None
    protected: Sequence[str] = ()
    dependencies: Sequence[LandedDependency] = ()
    instructions: Sequence[Instruction] = ()
    memory: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPrompt(UnitPrompt):
    """What an agent is told that works on a unit; `cause` is why the last attempt did not land."""

    cause: Cause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPrompt(UnitPrompt):
    """What an agent is told that mends refused work; `cause` is what was red."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerPrompt:
    """What an agent is told that plans: it lists units, or parts that are planned further.

    `scope` is the part at hand, empty for the whole objective; `depth` counts from 0. Where `depth`
    has reached `max_depth`, no more parts are asked for. `discoveries`, `remains` and `readings`
    have a line an entry, the newest first. `refused` is what was wrong with the last answer.
    """

    objective: str
    files: Sequence[str]
    verification: Verification
    protected: Sequence[str] = ()
    scope: str = ""
    depth: int = 0
    max_depth: int = 3
    max_children: int = 5
    readings: Sequence[str] = ()
    remains: Sequence[str] = ()
    discoveries: Sequence[str] = ()
    instructions: Sequence[Instruction] = ()
    memory: Sequence[str] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorPrompt:
    """What an agent is told that judges how far an objective is reached.

    `signals` are our own figures by name; the others have a line an entry.
    """

    objective: str
    signals: Mapping[str, str]
    landed: Sequence[str] = ()
    not_landed: Sequence[str] = ()
    discoveries: Sequence[str] = ()
    instructions: Sequence[Instruction] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewerPrompt:
    """What an agent is told that reviews a unit's work; `verdict` is what was measured of it."""

    title: str
    prompt: str
    diff: str
    verdict: str
    writes: Sequence[str] | None = None
    protected: Sequence[str] = ()
    instructions: Sequence[Instruction] = ()


def render_worker(prompt: WorkerPrompt) -> str:
    """Write the prompt of an agent that works on a unit, for the first time or again."""
    return _render("worker", prompt, mark=RESULT_MARK)


def render_repair(prompt: RepairPrompt) -> str:
    """Write the prompt of a fix-up agent."""
    return _render("repair", prompt, mark=RESULT_MARK)


def render_planner(prompt: PlannerPrompt) -> str:
    """Write the prompt of a planning agent."""
    return _render("planner", prompt, mark=PLAN_MARK)


def render_evaluator(prompt: EvaluatorPrompt) -> str:
    """Write the prompt of an evaluating agent."""
    return _render("evaluator", prompt, mark=EVALUATION_MARK)


def render_reviewer(prompt: ReviewerPrompt) -> str:
    """Write the prompt of a reviewing agent."""
    return _render("reviewer", prompt, mark=REVIEW_MARK)


def _render(name: str, prompt: Any, **values: str) -> str:
    known = {each.name: getattr(prompt, each.name) for each in fields(prompt)}
    return readable(_environment().get_template(f"{name}.md.j2").render(**known, **values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=select_autoescape(),  # of HTML, which no template here is
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "closed": lambda text: closed(readable(text).strip("\n")),
        "duration": format_duration,
        "items": _items,
        "landed": _landed,
        "line": on_one_line,
        "quoted": quoted,
    }
    environment.globals |= {
        "CAUSE": CAUSE_CHARACTERS,
        "DEPENDENCIES": DEPENDENCY_CHARACTERS,
        "DIFF": DIFF_CHARACTERS,
        "DISCOVERIES": DISCOVERY_CHARACTERS,
        "MEMORY": MEMORY_CHARACTERS,
        "READINGS": READING_CHARACTERS,
        "TREE": TREE_CHARACTERS,
    }
    return environment


def _items(lines: Sequence[str], limit: int) -> str:
    """Quote lines, one an entry, as many from the beginning as there is room for."""
    shown: list[str] = []
    room = limit
    for line in lines:
        item = f"- {on_one_line(line, _LINE_CHARACTERS)}"
        room -= len(item) + 1
        if room < 0:
            break
        shown.append(item)
    if n_left := len(lines) - len(shown):
        shown.append(f"[… {n_left} more …]")
    return quoted("\n".join(shown), limit + _LINE_CHARACTERS)


def _landed(dependencies: Sequence[LandedDependency]) -> str:
    return quoted("\n".join(map(_dependency, dependencies)), DEPENDENCY_CHARACTERS)


def _dependency(dependency: LandedDependency) -> str:
    title = f"- {dependency.unit}: {on_one_line(dependency.title, _TITLE_CHARACTERS)}"
    if not dependency.commit:
        return f"{title}\n  there was nothing to change"
    n_more = len(dependency.files) - FILES_SHOWN
    files = [on_one_line(path, _PATH_CHARACTERS) for path in dependency.files[:FILES_SHOWN]]
    more = [f"and {n_more} more"] if n_more > 0 else []
    commit = f"  commit {dependency.commit[:_COMMIT_CHARACTERS]}"
    return f"{title}\n{commit}: {', '.join([*files, *more])}" if files else f"{title}\n{commit}"
