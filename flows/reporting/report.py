"""The report of one mission: Markdown that reads as text in a terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from blocks.errors import Refused
from blocks.metrics_sql import statements
from flows.prompts.quoting import on_one_line
from flows.reporting.sync import open_for_reading

MAX_PROBES = 60
"""Longer histories of the train are shortened to this many probes, the last ones."""

MAX_REFUSED = 60
"""As many attempts that came to nothing are told, the last ones."""

MAX_FLAKES = 5
"""As many times that a test flaked are told by their probes, the last ones."""

MAX_NODES = 80
"""Longer plans are shortened to as many parts, the first ones of the last plans."""

MAX_REMAINS = 10
"""As many things that remain to be done are told, the most important ones."""

_CELL_CHARACTERS = 72
_NO_MARKUP = str.maketrans("<>`", "()'")
_UNKNOWN = "-"

_WHOLE = 100.0
"""From here on a rate is told without what is behind the point."""
_SHORT_SHA = 10
_MINUTE, _HOUR = 60, 3600

Facts = Mapping[str, Any]


class UnknownMission(Refused):
    """There is no such mission."""


def report(source: Path | duckdb.DuckDBPyConnection, mission: str) -> str:
    """Tell a mission in Markdown: what came of it, what landed, what was refused, the train.

    `source` is the metrics file (read without holding it, and brought up to date from the ledgers
    in `missions` beside it) or a connection to a store.

    Raises:
        UnknownMission: neither the store nor the ledgers have it; those that are known are named.
    """
    if not isinstance(source, Path):
        return _render(source, mission)
    try:
        with open_for_reading(source, only=mission) as store:
            return _render(store.connection, mission)
    except UnknownMission:
        with open_for_reading(source) as store:  # all of them, to name those that are known
            return _render(store.connection, mission)


def _render(connection: duckdb.DuckDBPyConnection, mission: str) -> str:
    def ask(name: str) -> list[Facts]:
        sql = statements("report")[name].sql
        cursor = connection.execute(sql, {"mission": mission} if "$mission" in sql else {})
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    found = ask("mission")
    if not found:
        known = ", ".join(row["mission"] for row in ask("known_missions")[:10])
        raise UnknownMission(f"{mission}; known: {known or 'none'}")
    facts = found[0]
    delivery = next(iter(ask("delivery")), None)
    parts = [
        _head(facts),
        _rounds(ask("rounds"), ask("findings"), next(iter(ask("judgement")), None)),
        _landed(ask("landed")),
        _not_landed(ask("not_landed")),
        _plan(ask("plan_tree")),
        _refused(ask("refused")),
        _unanswered(ask("unanswered")),
        _train(ask("train")),
        _figures(facts, ask("times")[0]),
        _by_agent(ask("agent_costs")),
        _listed("Rate limits", [_limit(r) for r in ask("limits")]),
        _listed(
            "Conflicts by file",
            [f"{_code(r['file'])}: {r['n_conflicts']}" for r in ask("hot_files")],
        ),
        _flaky(ask("flaked")),
        _listed("Remarks", [_line(r["text"], limit=400) for r in ask("remarks")]),
        _where(facts, delivery),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(facts: Facts) -> str:
    objective = "\n".join(f"> {line}" for line in facts["objective"].strip().splitlines())
    title = f"# Mission {_line(facts['name'])} ({facts['mission']})"
    return "\n\n".join(part for part in (title, objective, _outcome(facts)) if part)


def _outcome(facts: Facts) -> str:
    match facts["state"]:
        case "finished":
            what = f"**Finished: {facts['stop_reason']}** (exit code {facts['exit_code']})"
        case "interrupted":
            what = "**Interrupted**; `mission resume` goes on"
        case _:
            what = "**Not finished**: it runs now, or its driver died and `mission resume` goes on"
    detail = f" {_line(facts['detail'], limit=400)}" if facts["detail"] else ""
    n_units = facts["n_units"]
    counts = ", ".join(
        f"{facts[key]} {word}"
        for key, word in (
            ("n_no_change", "needed no change"),
            ("n_failed", "failed"),
            ("n_blocked", "blocked"),
            ("n_open", "still open"),
        )
        if facts[key]
    )
    return f"{what}.{detail}\n{facts['n_landed']} of {n_units} {_units(n_units)} landed" + (
        f"; {counts}." if counts else "."
    )


def _rounds(rows: Sequence[Facts], findings: Sequence[Facts], last: Facts | None) -> str:
    """Tell rounds where there is more than one, or a judgement."""
    n_judged = sum(row["met"] is not None for row in rows)
    if len(rows) < 2 and not n_judged:  # noqa: PLR2004 - one is no series
        return ""
    heads = ("round", "score", "judged", "objective", "landed", "plan", "run", "fix-up")
    table = _table((*heads, "evaluate", "took"), [_round(row) for row in rows])
    body = (table, _findings(findings, n_judged), _remains(last))
    return _section("Rounds", "\n\n".join(part for part in body if part))


def _round(row: Facts) -> tuple[str, ...]:
    n_units = (row["n_landed"] or 0) + (row["n_not_landed"] or 0)
    return (
        str(row["round"]),
        _score(row["score"]),
        _score(row["judged"]),
        _UNKNOWN if row["met"] is None else "met" if row["met"] else "not met",
        _UNKNOWN if row["n_landed"] is None else f"{row['n_landed']} of {n_units}",
        duration(row["plan_seconds"]),
        duration(row["run_seconds"]),
        duration(row["fixup_seconds"] or None),
        duration(row["evaluate_seconds"]),
        duration(row["total_seconds"]),
    )


def _score(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def _findings(rows: Sequence[Facts], n_judged: int) -> str:
    if n_judged < 2:  # noqa: PLR2004 - one is no series
        return _table(("findings", "n"), [(_line(r["kind"]), str(r["last_n"])) for r in rows])
    heads = ("findings", "after the first round", "after the last", "change")
    lines = [
        (_line(r["kind"]), str(r["first_n"]), str(r["last_n"]), f"{r['change']:+d}") for r in rows
    ]
    return _table(heads, lines)


def _remains(last: Facts | None) -> str:
    if last is None:
        return ""
    where = f"after round {last['round']}"
    said = f"The word {where}: {_line(last['summary'], limit=400)}" if last["summary"] else ""
    items = [f"- {_line(each, limit=200)}" for each in (last["remains"] or ())[:MAX_REMAINS]]
    if (n_more := len(last["remains"] or ()) - MAX_REMAINS) > 0:
        items.append(f"- and {n_more} more")
    remains = "\n".join([f"What remains {where}:", "", *items])
    return "\n\n".join(part for part in (said, remains if items else "") if part)


def _plan(rows: Sequence[Facts]) -> str:
    """Draw the trees of agents' plans as nested lists, the last plans when there are many."""
    plans: dict[int, list[Facts]] = {}
    for row in rows:
        plans.setdefault(row["seq"], []).append(row)
    shown: list[str] = []
    room = MAX_NODES
    for nodes in reversed(plans.values()):
        if room <= 0:
            shown.append("Earlier plans are left out.")
            break
        shown.append(_tree(nodes, room))
        room -= len(nodes)
    return _section("Plan", "\n\n".join(reversed(shown)))


def _tree(nodes: Sequence[Facts], room: int) -> str:
    anew = f", planned anew ({nodes[0]['replan']})" if nodes[0]["replan"] else ""
    lines = [f"Round {nodes[0]['round']}{anew}:", "", *map(_node, nodes[:room])]
    left_out = len(nodes) - room
    return "\n".join([*lines, f"- {left_out} more parts"] if left_out > 0 else lines)


def _node(row: Facts) -> str:
    n = row["n_units"]
    what = {"parts": "", "leaf": f" ({n} {_units(n)}; its answers were unusable)"}
    said = what.get(row["kind"], f" ({n} {_units(n)})")
    return f"{'  ' * row['depth']}- {_line(row['path'])} {_line(row['title'] or '')}{said}"


def _unanswered(rows: Sequence[Facts]) -> str:
    lines = [
        (
            str(row["ask"]),
            str(row["round"]),
            f"{row['purpose']} {row['node'] or ''}".strip(),
            _code(row["agent"] or _UNKNOWN),
            row["outcome"],
            _line(row["problem"] or ""),
        )
        for row in rows[-MAX_REFUSED:]
    ]
    table = _table(("question", "round", "asked to", "agent", "outcome", "why"), lines)
    left_out = _after_left_out(len(rows) - len(lines), "questions", table)
    return _section("Questions without an answer", left_out)


def _landed(rows: Sequence[Facts]) -> str:
    lines = [
        (
            _code(row["unit"]),
            _line(row["title"] or ""),
            _code(row["commit_id"][:_SHORT_SHA]),
            str(row["n_attempts"]),
            duration(row["total_seconds"]),
            money(row["cost_usd"]),
        )
        for row in rows
    ]
    heads = ("unit", "title", "commit", "attempts", "time", "cost")
    return _section("Landed", _table(heads, lines) if lines else "Nothing.")


def _not_landed(rows: Sequence[Facts]) -> str:
    lines = [
        (_code(row["unit"]), row["status"], str(row["n_attempts"]), _line(row["reason"] or ""))
        for row in rows
    ]
    return _section("Not landed", _table(("unit", "status", "attempts", "why"), lines))


def _refused(rows: Sequence[Facts]) -> str:
    lines = [
        (
            f"{_code(row['unit'])} · {row['attempt']}",
            row["fate"],
            "yes" if row["charged"] else "no",
            _line(row["detail"] or ""),
        )
        for row in rows[-MAX_REFUSED:]
    ]
    table = _table(("unit · attempt", "outcome", "used up", "why"), lines)
    return _section("Refused and why", _after_left_out(len(rows) - len(lines), "attempts", table))


def _train(rows: Sequence[Facts]) -> str:
    lines = [
        (
            str(row["probe"]),
            f"+{duration(row['began_seconds'])}",
            row["kind"],
            _stack(row["units"]),
            f"{row['verdict'] or 'no verdict'}{' (cached)' if row['cached'] else ''}",
            duration(row["probe_seconds"]),
            _consequence(row),
        )
        for row in rows[-MAX_PROBES:]
    ]
    heads = ("probe", "began", "kind", "units above green", "verdict", "took", "came of it")
    table = _after_left_out(len(rows) - len(lines), "probes", _table(heads, lines))
    return _section("The train", table)


def _flaky(rows: Sequence[Facts]) -> str:
    lines = [
        (
            _code(row["test"]),
            str(row["n_flakes"]),
            _code(row["last_tree"][:_SHORT_SHA]) if row["last_tree"] else _UNKNOWN,
            _turns(row["probes"]),
        )
        for row in rows
    ]
    heads = ("test", "times", "last tree", "probes (red, then green)")
    return _section("Flaky tests", _table(heads, lines))


def _turns(probes: Sequence[int]) -> str:
    """Say the last few pairs of probes: `3, 4; 7, 8`."""
    pairs = [f"{red}, {green}" for red, green in zip(probes[::2], probes[1::2], strict=True)]
    return f"{'…; ' if len(pairs) > MAX_FLAKES else ''}{'; '.join(pairs[-MAX_FLAKES:])}"


def _stack(units: Sequence[str]) -> str:
    if not units:
        return "none"
    last = _code(units[-1])
    return last if len(units) == 1 else f"{len(units)}, up to {last}"


def _consequence(row: Facts) -> str:
    first = f": {_code(row['failing'][0])}" if row["failing"] else ""
    more = f" and {len(row['failing']) - 1} more" if len(row["failing"] or ()) > 1 else ""
    what = {
        "base": "green begins" if row["verdict"] == "passed" else "base is not green",
        "culprit": "culprit found",
        "rejection": "rejected",
        "search": "searched on",
        "nothing": "overtaken" if row["verdict"] else "",
        "not a run": _line(row["reason"] or "not a run"),
    }.get(row["good_for"], row["good_for"])
    return f"{what}{first}{more}"


def _figures(facts: Facts, times: Facts) -> str:
    unsaid = ", ".join(
        f"{facts[f'n_{what}_without_cost']} of {facts[f'n_{what}']} {word}"
        for what, word in (("attempts", "attempts"), ("asks", "questions"))
        if facts[f"n_{what}_without_cost"]
    )
    lines = [
        ("began", f"{facts['started_at']:%Y-%m-%d %H:%M:%S} UTC"),
        ("drivers at work", duration(facts["active_seconds"])),
        ("cost", money(facts["cost_usd"]) + (f" ({unsaid} did not say)" if unsaid else "")),
        ("cost a landed unit", money(facts["cost_per_landed_unit_usd"])),
        ("landed an hour", number(facts["landed_per_hour"])),
        ("first time right", share(facts["first_time_right_share"])),
        ("slots used", f"{share(facts['utilisation'])} of {facts['slots'] or 'no'}"),
        ("verifications", f"{facts['n_probes']}, {duration(facts['probe_seconds'])}"),
        ("verifications a landed unit", number(facts["probes_per_landed_unit"])),
        ("flakes a verification", share(facts["flakes_per_run"])),
    ]
    if times["n"]:
        lines += [
            ("a landed unit waits for others", duration(times["dependency"])),
            ("… for a slot", duration(times["wait"])),
            ("… runs", duration(times["run"])),
            ("… between attempts", duration(times["between_attempts"])),
            ("… is verified and lands", duration(times["landing"])),
        ]
    return _section("Time and cost", _table(("figure", "value"), lines))


def _by_agent(rows: Sequence[Facts]) -> str:
    """Compare what agents took, where there is more to say than one sum."""
    tokens = ("input_tokens", "cached_tokens", "output_tokens", "turns")
    is_told = any(row[key] is not None for row in rows for key in tokens)
    if len(rows) < 2 and not is_told:  # noqa: PLR2004 - one is no comparison
        return ""
    lines = [
        (
            _code(row["agent"] or _UNKNOWN),
            row["purpose"],
            str(row["n_runs"]),
            duration(row["agent_seconds"]),
            money(row["cost_usd"]),
            *(_UNKNOWN if row[key] is None else f"{row[key]:,}" for key in tokens),
        )
        for row in rows
    ]
    heads = ("agent", "for", "runs", "time", "cost", "tokens in", "of these cached", "tokens out")
    return _section("Cost by agent", _table((*heads, "turns"), lines))


def _limit(row: Facts) -> str:
    until = f"{row['limited_until']:%Y-%m-%d %H:%M:%S}" if row["limited_until"] else "no time told"
    return (
        f"{_code(row['agent'])} ({row['purpose']}): {row['met_at']:%Y-%m-%d %H:%M:%S} to {until}"
        f" UTC ({duration(row['rest_seconds'])})"
    )


def _where(facts: Facts, delivery: Facts | None) -> str:
    repository = facts["repository"]
    if facts["green_commit"] is None:
        return _section("Where it is", "Nothing passed, so there is no branch.")
    if delivery is None or not delivery["delivered"]:
        why = f": {_line(delivery['reason'])}" if delivery else ""
        not_there = f"The target did not take {_code(facts['green_commit'])} yet{why}."
        return _section("Where it is", f"{not_there} `mission resume` tries again.")
    branch, base = delivery["branch"], facts["base_commit"]
    there = (
        f"Branch {_code(branch)} of {_code(repository)} is at {_code(delivery['commit_id'])}; "
        f"{_code(facts['base_branch'])} was at {_code(base)}."
    )
    return _section("Where it is", f"{there}\n\n```sh\n{_commands(repository, branch, base)}\n```")


def _commands(repository: str, branch: str, base: str) -> str:
    where, name, since = shlex.quote(repository), shlex.quote(branch), base[:_SHORT_SHA]
    if re.match(r"[\w+.-]+://|[\w.-]+@[\w.-]+:", repository):
        fetch = f"git fetch {where} {name}\n"
        return f"{fetch}git log --oneline {since}..FETCH_HEAD\ngit diff --stat {since} FETCH_HEAD"
    git = f"git -C {where}"
    return f"{git} log --oneline {since}..{name}\n{git} diff --stat {since} {name}"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _listed(title: str, items: Sequence[str]) -> str:
    return _section(title, "\n".join(f"- {item}" for item in items))


def _after_left_out(n: int, what: str, table: str) -> str:
    return f"{n} earlier {what} are left out.\n\n{table}" if n > 0 else table


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table that is aligned as text, too; nothing for no rows."""
    if not rows:
        return ""
    cells = [list(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(_aligned(row, widths) for row in cells)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded: Iterator[str] = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _line(text: str, *, limit: int = _CELL_CHARACTERS) -> str:
    """Bring text onto one line of limited length; what agents write starts no markup."""
    flat = on_one_line(text).translate(_NO_MARKUP)
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _code(text: str) -> str:
    return f"`{_line(text)}`"


def _units(n: int) -> str:
    return "unit" if n == 1 else "units"


def duration(seconds: float | None) -> str:
    """Say a duration as people do: `9 s`, `2 min 12 s`, `3 h 5 min`; a dash for none."""
    if seconds is None:
        return _UNKNOWN
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def money(cost_usd: float | None) -> str:
    """Say an amount; a dash when it is not known, which is not nothing."""
    return _UNKNOWN if cost_usd is None else f"${cost_usd:.2f}"


def share(value: float | None) -> str:
    """Say a share in per cent; a dash for none."""
    return _UNKNOWN if value is None else f"{value:.0%}"


def number(value: float | None) -> str:
    """Say a rate with as many digits as mean something; a dash for none."""
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if value >= _WHOLE else f"{value:.3g}"
