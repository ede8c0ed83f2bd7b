"""Where missions stand, told from their ledgers: text for people, JSON values for programs."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.human_input import format_duration
from flows.ledger.events import (
    AskStarted,
    AttemptStarted,
    Event,
    FlakeSeen,
    MissionStarted,
    ProbeStarted,
    RoundJudged,
)
from flows.ledger.log import Record
from flows.ledger.state import SATISFIED, MissionState, Status, UnitState, fold
from flows.missions import Summary, is_driven, records_of
from flows.prompts.quoting import readable
from flows.reporting.narration import count, tally
from flows.reporting.tables import Cell, shortened, table, width

if TYPE_CHECKING:
    from flows.preflight import Check
    from flows.running.memory import Entry

SHOWN_NAMES = 40
SHOWN_WHY = 200
SHOWN_FLAKY = 10
_SHORT_SHA = 12
_SHORT_SECONDS = 10

MARKS = {
    Status.LANDED: ("✓", "green"),
    Status.NO_CHANGE: ("=", "green"),
    Status.FAILED: ("✗", "red"),
    Status.BLOCKED: ("-", "yellow"),
    Status.RUNNING: ("▶", "cyan"),
    Status.LANDING: ("▶", "cyan"),
    Status.WAITING: ("·", "dim"),
}
"""The sign of a unit's status, and the style of its word in a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """A mission at one moment; times are seconds since the epoch."""

    mission: str
    state: MissionState
    is_driven: bool
    attempts_since: dict[str, float]
    probes_since: dict[int, float]
    asks_since: dict[int, float]
    flakes: tuple[FlakeSeen, ...]
    now: float

    @property
    def word(self) -> str:
        """How it stands, in a word."""
        if self.state.finished is not None:
            return "finished"
        if self.is_driven:
            return "running"
        return "interrupted" if self.state.interrupted else "not running"

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since it began, up to its last event when nobody drives it."""
        if self.state.finished is not None:
            return self.state.finished.seconds
        return (self.now if self.is_driven else self.state.last_at) - self.state.started_at


def _look(home: Path, mission: str) -> _Standing:
    driven = is_driven(home, mission)
    records = records_of(home, mission)
    return _Standing(
        mission=mission,
        state=fold(records),
        is_driven=driven,
        attempts_since=dict(_times(records, AttemptStarted, "unit")),
        probes_since=dict(_times(records, ProbeStarted, "probe")),
        asks_since=dict(_times(records, AskStarted, "ask")),
        flakes=tuple(r.event for r in records if isinstance(r.event, FlakeSeen)),
        now=time.time(),
    )


def _times(records: Iterable[Record], kind: type[Event], key: str) -> Iterator[tuple[Any, float]]:
    return ((getattr(r.event, key), r.at) for r in records if isinstance(r.event, kind))


# -- status -----------------------------------------------------------------------------------


def status_json(home: Path, mission: str) -> dict[str, Any]:
    """A mission's standing as JSON values; times are ISO 8601 in UTC.

    Raises:
        SettingsInvalid: there is no such mission.
        LedgerDamaged: its ledger cannot be read.
    """
    standing = _look(home, mission)
    state, finished = standing.state, standing.state.finished
    return {
        "mission": mission,
        **_origin_json(state.started),
        "status": standing.word,
        "stop_reason": finished.stop_reason if finished else None,
        "exit_code": finished.exit_code if finished else None,
        "detail": finished.detail if finished else "",
        "started_at": _iso(state.started_at),
        "last_at": _iso(state.last_at),
        "elapsed_seconds": round(standing.elapsed_seconds, 3),
        "cost_usd": state.cost_usd,
        "tokens": state.tokens or None,
        "round": state.round,
        "rounds": [_round_json(judged) for judged in state.inquiry.judged],
        "asks": [_ask_json(ask, standing) for ask in state.inquiry.asks.values()],
        "limited": {name: _iso(until) for name, until in _limited(standing).items()},
        "waits_for": [review for review, answer in state.reviews.items() if not answer],
        "counts": state.counts,
        "units": [_unit_json(unit, standing) for unit in state.planned_units],
        "train": _train_json(standing),
        "flaky_tests": _flaky_json(standing),
        "green": state.green,
        "delivered": state.delivered,
        "delivered_branch": state.delivered_branch,
    }


def _origin_json(started: MissionStarted | None) -> dict[str, Any]:
    if started is None:
        return {}
    names = ("name", "objective", "repository", "base_branch", "base", "green_branch", "start")
    return {name: getattr(started, name) for name in names}


def _unit_json(unit: UnitState, standing: _Standing) -> dict[str, Any]:
    running = unit.status == Status.RUNNING
    since = standing.attempts_since.get(unit.unit.id) if running else None
    return {
        "id": unit.unit.id,
        "title": unit.unit.title,
        "depends_on": list(unit.unit.depends_on),
        "agent": unit.unit.agent,
        "round": unit.round,
        "status": unit.status.value,
        "attempts": unit.tries,
        "commit": unit.commit if unit.status == Status.LANDED else None,
        "why": None if unit.status in SATISFIED else unit.cause or None,
        "place": unit.place if running else None,
        "slot": unit.slot if running else None,
        "since": _iso(since) if since else None,
        "cost_usd": unit.cost_usd or None,
    }


def _round_json(judged: RoundJudged) -> dict[str, Any]:
    return {
        "round": judged.round,
        "met": judged.met,
        "score": judged.score,
        "judged": judged.judged,
        "signals": dict(judged.signals),
        "remains": list(judged.remains),
    }


def _ask_json(ask: AskStarted, standing: _Standing) -> dict[str, Any]:
    return {
        "ask": ask.ask,
        "purpose": ask.purpose,
        "node": ask.node,
        "agent": ask.agent,
        "place": ask.place,
        "slot": ask.slot,
        "since": _iso(standing.asks_since[ask.ask]),
    }


def _limited(standing: _Standing) -> dict[str, float]:
    """Agents that are out of quota now, and until when."""
    limited = standing.state.limited.items()
    return {name: until for name, until in limited if until > standing.now}


def _train_json(standing: _Standing) -> dict[str, Any]:
    train, probes = standing.state.train, standing.state.probes
    return {
        "stack": [each.candidate.unit for each in train.landing.stack],
        "queue": [each.unit for each in train.queue],
        "screening": [[s.candidate.unit for s in line.stack] for line in train.screening.values()],
        "set_aside": [*train.aside],
        "in_repair": [*standing.state.repairs],
        "probes": [
            {
                "probe": number,
                "kind": probe.kind,
                "commit": probe.commit,
                "units": list(probe.units),
                "since": _iso(standing.probes_since[number]),
            }
            for number, probe in probes.items()
        ],
    }


def _flaky_json(standing: _Standing) -> list[dict[str, Any]]:
    """The tests that were red, then green on the same tree, worst first."""
    by_test: dict[str, list[FlakeSeen]] = {}
    for flake in standing.flakes:
        for test in dict.fromkeys(flake.failing):
            by_test.setdefault(test, []).append(flake)
    return [
        {
            "test": test,
            "flakes": len(seen),
            "last_tree": seen[-1].tree,
            "probes": [[flake.red_probe, flake.green_probe] for flake in seen],
        }
        for test, seen in sorted(by_test.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def status_text(home: Path, mission: str) -> str:
    """Tell a mission's standing: what runs, the train, what did not land and why.

    Raises:
        SettingsInvalid: there is no such mission.
        LedgerDamaged: its ledger cannot be read.
    """
    standing = _look(home, mission)
    state = standing.state
    parts = [
        table((), [*_head_rows(standing), *_train_rows(standing)]),
        *_names_by_status(state),
        _section("rounds", ("round", "score", "judged", "remains"), _round_rows(state)),
        _section("running", ("unit", "attempt", "where", "for"), _running_rows(standing)),
        _section("flaky", ("test", "times", "last tree", "last probes"), _flaky_rows(standing)),
        _section("not landed", ("unit", "status", "attempts", "why"), _open_rows(state)),
    ]
    return "\n".join(part for part in parts if part)


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    return f"\n{title}\n{table(heads, rows)}" if rows else ""


def _head_rows(standing: _Standing) -> Iterator[tuple[str, str]]:
    state, started = standing.state, standing.state.started
    yield "mission", f"{standing.mission}: {_how(standing)}"
    if state.finished is not None and state.finished.detail:
        yield "because", shortened(state.finished.detail, SHOWN_WHY)
    if state.stop is not None and state.finished is None:
        yield "stop", f"requested by {state.stop.by}"
    if started is not None:
        base = f"{started.base_branch} {started.base[:_SHORT_SHA]}"
        yield "target", f"{started.repository}, {base}"
        yield "green", _green(state, started)
    yield "units", tally(state.counts)
    for name, until in _limited(standing).items():
        yield "limited", f"agent {name} is out of quota for {_duration(until - standing.now)}"
    cost = "unknown" if state.cost_usd is None else f"${state.cost_usd:.2f}"
    yield "spent", f"{_duration(standing.elapsed_seconds)}, cost {cost}"


def _how(standing: _Standing) -> str:
    finished = standing.state.finished
    if finished is not None:
        return f"finished ({finished.stop_reason}, exit code {finished.exit_code})"
    if standing.is_driven:
        return f"running, round {standing.state.round}"
    if any(not answer for answer in standing.state.reviews.values()):
        return "waits for a review; `mission review` shows it and takes the answer"
    return f"{standing.word}; `mission resume` goes on with it"


def _green(state: MissionState, started: MissionStarted) -> str:
    if state.green is None:
        return "none yet: no tree has passed"
    short = state.green[:_SHORT_SHA]
    if state.delivered is None:
        return f"{short}, not delivered yet (to {started.green_branch})"
    where = f"delivered to {state.delivered_branch}"
    if state.delivered_branch != started.green_branch:
        where += f", because {started.green_branch} could not be had"
    if state.delivered != state.green:
        where = f"{state.delivered[:_SHORT_SHA]} {where}, the rest not yet"
    return f"{short}, {where}"


def _train_rows(standing: _Standing) -> Iterator[tuple[str, str]]:
    train = standing.state.train
    stack = " ← ".join(each.candidate.unit for each in train.landing.stack)
    yield "train", stack or ("empty" if train.is_empty else "nothing stacked")
    if train.queue:
        yield "queue", _names([each.unit for each in train.queue])
    for line in train.screening.values():
        yield "screened", _names([each.candidate.unit for each in line.stack])
    if train.aside:
        yield "set aside", _names([*train.aside])
    for unit, repair in standing.state.repairs.items():
        yield "in repair", f"{unit}, by {count(len(repair.attempted), 'agent')}"
    for number, probe in standing.state.probes.items():
        holds = f" with {_names(list(probe.units))}" if probe.units else ""
        age = _duration(standing.now - standing.probes_since[number])
        yield f"probe {number}", f"{probe.kind}{holds}, for {age}"


def _names_by_status(state: MissionState) -> Iterator[str]:
    for status in Status:
        if units := state.by_status(status):
            names = _names([unit.unit.id for unit in units])
            line = f"{len(units)} {status.value}: {names}"
            yield "\n".join(
                textwrap.wrap(
                    line,
                    max(width(), 20),
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                    break_long_words=False,
                )
            )


def _running_rows(standing: _Standing) -> list[tuple[str, ...]]:
    asks = [
        (
            f"{ask.purpose} {ask.node}".rstrip(),
            "-",
            f"{ask.place}/{ask.agent}",
            _duration(standing.now - standing.asks_since[ask.ask]),
        )
        for ask in standing.state.inquiry.asks.values()
    ]
    attempts = [
        (
            unit.unit.id,
            str(unit.tries),
            f"{unit.place}/{unit.slot}",
            _duration(standing.now - standing.attempts_since[unit.unit.id]),
        )
        for unit in standing.state.by_status(Status.RUNNING)
    ]
    return [*asks, *attempts]


def _round_rows(state: MissionState) -> list[tuple[str, ...]]:
    """Rounds that were judged, where there is more to tell than that the one plan was done."""
    judged = state.inquiry.judged
    is_one = len(judged) <= 1
    if is_one and all(each.judged is None for each in judged):
        return []
    return [
        (
            str(j.round),
            _share(j.score),
            _share(j.judged),
            shortened("; ".join(j.remains), SHOWN_WHY),
        )
        for j in judged
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _flaky_rows(standing: _Standing) -> list[tuple[str, ...]]:
    return [
        (
            shortened(each["test"], SHOWN_WHY),
            str(each["flakes"]),
            each["last_tree"][:_SHORT_SHA],
            "{} red, {} green".format(*each["probes"][-1]),
        )
        for each in _flaky_json(standing)[:SHOWN_FLAKY]
    ]


def _open_rows(state: MissionState) -> list[tuple[Cell, ...]]:
    """Units that did not land: with a reason while it goes on, all of them when it is over."""
    rows: list[tuple[Cell, ...]] = []
    for unit in state.planned_units:
        if unit.status in SATISFIED or not (unit.cause or state.finished):
            continue
        word: Cell = (unit.status.value, MARKS[unit.status][1])
        rows.append((unit.unit.id, word, str(unit.tries), _why(unit)))
    return rows


def _why(unit: UnitState) -> str:
    return shortened(unit.cause, SHOWN_WHY) or ("was not tried" if unit.tries == 0 else "")


def _names(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_NAMES
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown} and {rest} more" if rest > 0 else shown


def _duration(seconds: float) -> str:
    if seconds < _SHORT_SECONDS:
        return f"{max(seconds, 0):.1f}s"
    return format_duration(round(seconds))


# -- history ----------------------------------------------------------------------------------


def history_json(summaries: Iterable[Summary]) -> list[dict[str, Any]]:
    """Missions as JSON values, in the order given; times are ISO 8601 in UTC."""
    return [
        {
            **asdict(summary),
            "started_at": _iso(summary.started_at),
            "last_at": _iso(summary.last_at),
        }
        for summary in summaries
    ]


def history_text(summaries: Sequence[Summary]) -> str:
    """List missions, one line each, in the order given; times are local."""
    if not summaries:
        return "no missions yet; start one with `mission run`"
    return table(("mission", "began", "took", "ended", "units"), [*map(_history_row, summaries)])


def _history_row(summary: Summary) -> tuple[Cell, ...]:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.started_at))
    took = _duration(summary.last_at - summary.started_at)
    if summary.finished is None:
        return summary.id, began, took, ("unfinished", "yellow"), ""
    style = "green" if summary.finished["exit_code"] == 0 else "red"
    ended = (summary.finished["stop_reason"], style)
    return summary.id, began, took, ended, tally(summary.finished["counts"])


# -- the end of `mission run` -----------------------------------------------------------------


def memory_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Entries of a memory as JSON values, in the order given; times are ISO 8601 in UTC."""
    return [
        {
            "id": entry.id,
            "kind": entry.kind,
            "text": entry.text,
            "unit": entry.unit,
            "mission": entry.mission,
            "at": _iso(entry.at),
        }
        for entry in entries
    ]


def memory_text(entries: Sequence[Entry]) -> str:
    """List entries of a memory, one line each, in the order given."""
    if not entries:
        return "nothing is remembered of this repository yet"
    rows = [(entry.id, entry.kind, entry.unit, entry.text) for entry in entries]
    return table(("id", "kind", "from", "text"), rows)


def closing_lines(mission: str, state: MissionState) -> list[str]:
    """Tell the end of a mission: each unit, the tally, where the branch is, how to look at it."""
    rows = [(*_marked(unit), _commit_or_why(unit)) for unit in state.planned_units]
    lines = table((), rows).splitlines() if rows else []
    return [*lines, *_ending_lines(mission, state), *_where_lines(state)]


def _marked(unit: UnitState) -> tuple[Cell, Cell, Cell]:
    mark, style = MARKS[unit.status]
    return (mark, style), unit.unit.id, (unit.status.value, style)


def _commit_or_why(unit: UnitState) -> str:
    if unit.status == Status.LANDED:
        return unit.commit[:_SHORT_SHA]
    return _why(unit)


def _ending_lines(mission: str, state: MissionState) -> Iterator[str]:
    finished = state.finished
    if finished is None:
        yield f"interrupted: {tally(state.counts)}; `mission resume {mission}` goes on"
        return
    cost = "" if finished.cost_usd is None else f"; ${finished.cost_usd:.2f}"
    yield f"{finished.stop_reason}: {tally(finished.counts)}; {_duration(finished.seconds)}{cost}"
    yield from (f"  {line}" for line in readable(finished.detail).strip().splitlines())


def _where_lines(state: MissionState) -> Iterator[str]:
    started, branch = state.started, state.delivered_branch
    if started is None or state.delivered is None or branch is None:
        return
    repository = started.repository
    fell_back = branch != started.green_branch
    instead = f" ({started.green_branch} could not be had)" if fell_back else ""
    yield f"branch {branch} of {repository} is {state.delivered[:_SHORT_SHA]}{instead}"
    if state.green != state.delivered and state.green is not None:
        yield f"green is {state.green[:_SHORT_SHA]}: what landed last is not delivered yet"
    git, tip, base = f"git -C {shlex.quote(repository)}", branch, started.base_branch
    if not Path(repository).exists():
        yield f"  git fetch {shlex.quote(repository)} {branch}"
        git, tip, base = "git", "FETCH_HEAD", started.base
    yield f"  {git} log --oneline {base}..{tip}"
    yield f"  {git} diff {base}...{tip}"


# -- doctor -----------------------------------------------------------------------------------


def checks_text(checks: Sequence[Check]) -> str:
    """Show what was looked at: sign, what, what was found."""
    return table((), [*map(_check_row, checks)])


def _check_row(check: Check) -> tuple[Cell, ...]:
    mark = ("ok", "green") if check.ok else ("no", "red bold")
    return mark, check.what, check.detail
