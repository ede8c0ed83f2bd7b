"""What earlier missions of a repository tell about the time and cost of the next one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.metrics_sql import statements
from flows.planning.plan import Unit, UnitId

if TYPE_CHECKING:
    import duckdb

MIN_ATTEMPTS = 3
"""With fewer attempts of an agent than that, nothing is said of it."""

COMMANDS = "(commands)"
"""Whom units belong to that bring a command of their own; no agent's name has parentheses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What a tenth, a half and nine tenths of all that was seen lie below."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHistory:
    """An agent's attempts at units, without those that a fault, a rate limit or a stop ended.

    `cost_usd` is of the `n_costs` attempts that told it; `attempts_per_landed` is None when nothing
    landed (what needed no change counts as landed).
    """

    n_attempts: int
    seconds: Quantiles
    n_costs: int = 0
    cost_usd: Quantiles | None = None
    attempts_per_landed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of a repository; `verify_seconds` is None when nothing was ever verified."""

    n_missions: int = 0
    agents: Mapping[str, AgentHistory] = field(default_factory=dict)
    verify_seconds: Quantiles | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan may take; None is not known, and then `…_unknown` says why."""

    seconds_low: float | None = None
    seconds_high: float | None = None
    usd_low: float | None = None
    usd_high: float | None = None
    seconds_unknown: str = ""
    usd_unknown: str = ""


# -- reading ----------------------------------------------------------------------------------


def read_history(metrics_path: Path, missions_folder: Path, repository_url: str) -> History:
    """Read what all missions of a repository tell, from the metrics file and what is newer.

    Nothing is held or changed, and neither needs to be there. Agents go by their names, whatever
    model was behind them then.

    Raises:
        StoreFailed: DuckDB cannot read it.
    """
    has_ledgers = any(missions_folder.glob("*/ledger.jsonl"))
    if not repository_url or not (has_ledgers or metrics_path.exists()):
        return History()
    from flows.reporting.sync import open_for_reading  # noqa: PLC0415 - DuckDB takes its time

    with open_for_reading(metrics_path, missions_folder) as store:
        return _read(store.connection, repository_url)


def _read(connection: duckdb.DuckDBPyConnection, repository: str) -> History:
    def ask(name: str, **values: str) -> list[Any]:
        sql = statements("history")[name].sql
        return connection.execute(sql, {"repository": repository, **values}).fetchall()

    ((n_missions, verify_seconds),) = ask("verifications")
    agents: dict[str, AgentHistory] = {}
    for name, n_attempts, n_costs, n_landed, seconds, cost in ask(
        "agents_attempts", commands=COMMANDS
    ):
        agents[name] = AgentHistory(
            n_attempts=n_attempts,
            seconds=_quantiles(seconds),
            n_costs=n_costs,
            cost_usd=_quantiles(cost) if cost else None,
            attempts_per_landed=n_attempts / n_landed if n_landed else None,
        )
    verified = _quantiles(verify_seconds) if verify_seconds else None
    return History(n_missions=n_missions, agents=agents, verify_seconds=verified)


def _quantiles(values: Sequence[float]) -> Quantiles:
    low, middle, high = values
    return Quantiles(low=low, middle=middle, high=high)


# -- estimating -------------------------------------------------------------------------------


def estimate(
    history: History,
    units: Sequence[Unit],
    path: Collection[UnitId],
    slots: int,
    verify_slots: int,
) -> Estimate:
    """Say what one round of these units may take; `path` are the ids of the critical path.

    With a unit's agent, `t` are the quantiles of the seconds of its attempts, `c` those of their
    cost, `k` its attempts per landed unit (at least 1), and `v` quantiles of the seconds of a
    verification:

    - time, low: max(sum of t10 + v10 on the path, sum of t10 of all units / slots + v10)
    - time, high: max(sum of k (t90 + v90) on the path, sum of k t90 of all units / slots + v90,
      sum of k v90 of all units / verify_slots)
    - cost, low: sum of c10 of all units; high: sum of k c90 of all units

    Low is when all goes well at once: first attempts land, one verification does for many units.
    High is when all is slow at once; it is no bound, which only the limits of the mission are.
    Plans and judgements by agents, repairs and waiting for quota are not in it. An agent with
    fewer than `MIN_ATTEMPTS` attempts (for the cost: that told it) makes the whole unknown.
    """
    if reason := _unknown(history, units):
        return Estimate(seconds_unknown=reason, usd_unknown=reason)
    verify = history.verify_seconds
    hopeless = _hopeless(history, units)
    low = high = None
    if verify is not None:
        low = _seconds_low(history, verify, units, path, slots)
        if not hopeless:
            high = _seconds_high(history, verify, units, path, slots, verify_slots)
    untold = _untold(history, units)
    usd = _usd(history, units, is_high=False) if not untold else None
    usd_high = _usd(history, units, is_high=True) if not (untold or hopeless) else None
    return Estimate(
        seconds_low=low,
        seconds_high=high,
        usd_low=usd,
        usd_high=usd_high,
        seconds_unknown=hopeless if verify is not None else "nothing was ever verified",
        usd_unknown=untold or hopeless,
    )


def _unknown(history: History, units: Sequence[Unit]) -> str:
    if not units:
        return "no units"
    if not history.n_missions:
        return "no earlier mission of this repository"
    known = history.agents
    names = [n for n in _agents(units) if n not in known or known[n].n_attempts < MIN_ATTEMPTS]
    return f"fewer than {MIN_ATTEMPTS} attempts by {', '.join(names)}" if names else ""


def _hopeless(history: History, units: Sequence[Unit]) -> str:
    known = history.agents
    names = [name for name in _agents(units) if known[name].attempts_per_landed is None]
    return f"nothing landed by {', '.join(names)}" if names else ""


def _untold(history: History, units: Sequence[Unit]) -> str:
    known = history.agents
    names = [name for name in _agents(units) if known[name].n_costs < MIN_ATTEMPTS]
    return f"no cost is told by {', '.join(names)}" if names else ""


def _agents(units: Iterable[Unit]) -> list[str]:
    return sorted({_agent(unit) for unit in units})


def _agent(unit: Unit) -> str:
    return unit.agent if unit.command is None else COMMANDS


def _attempts(known: AgentHistory) -> float:
    return max(known.attempts_per_landed or 1.0, 1.0)


def _seconds_low(
    history: History,
    verify: Quantiles,
    units: Sequence[Unit],
    path: Collection[UnitId],
    slots: int,
) -> float:
    seconds = {unit.id: history.agents[_agent(unit)].seconds.low for unit in units}
    in_a_row = sum(seconds[name] + verify.low for name in path)
    return max(in_a_row, sum(seconds.values()) / slots + verify.low)


def _seconds_high(
    history: History,
    verify: Quantiles,
    units: Sequence[Unit],
    path: Collection[UnitId],
    slots: int,
    verify_slots: int,
) -> float:
    known = {unit.id: history.agents[_agent(unit)] for unit in units}
    attempts = {name: _attempts(each) for name, each in known.items()}
    work = sum(attempts[name] * each.seconds.high for name, each in known.items())
    in_a_row = sum(attempts[name] * (known[name].seconds.high + verify.high) for name in path)
    verified = sum(attempts.values()) * verify.high / verify_slots
    return max(in_a_row, work / slots + verify.high, verified)


def _usd(history: History, units: Sequence[Unit], *, is_high: bool) -> float:
    total = 0.0
    for unit in units:
        known = history.agents[_agent(unit)]
        if known.cost_usd is not None:
            cost = known.cost_usd
            total += _attempts(known) * cost.high if is_high else cost.low
    return total
