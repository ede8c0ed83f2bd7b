"""The results as text for a terminal and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from blocks.commands import run
from tests.benchmarks.missions import Measured
from tests.benchmarks.rows import Row, Suite
from tests.benchmarks.steps import Step

HEADS = ("work", "measured", "reference", "ratio", "wanted", "met")
DIGITS = {"s": 2, "runs": 4, "per V": 2, "in 1,000": 3, "ms a step": 2}
"""After the point, by unit; none for others."""


def results_table(rows: Sequence[Row]) -> str:
    """The table of results."""
    return aligned([HEADS, *map(_cells, rows)])


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row.is_met]
    return (
        row.work,
        _figure(row.measured, row.unit),
        "" if row.reference is None else _figure(row.reference, row.unit),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        _wanted(row),
        met,
    )


def _wanted(row: Row) -> str:
    if row.wanted is None:
        return ""
    sign = ">=" if row.at_least else "<="
    if row.limits == "measured":
        return f"{sign} {_figure(row.wanted, row.unit)}"
    return f"{sign} {row.wanted:.2f}" if row.at_least or row.wanted >= 1 else "< 1"


def _figure(value: float, unit: str) -> str:
    return f"{value:.{DIGITS.get(unit, 0)}f} {unit}"


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """What explains the figures."""
    for row in rows:
        if row.note:
            yield f"  {row.work}:\n      {row.note}"


def way_table(missions: Mapping[str, Measured]) -> str:
    """Where a unit's wall time goes, in ms, for each mission."""
    shares = {name: measured.wall_shares() for name, measured in missions.items()}
    names = [*next(iter(shares.values()), {})]
    rows = [(step, *(f"{shares[m][step]:.0f}" for m in shares)) for step in names]
    return aligned([("mean ms a unit", *shares), *rows])


def steps_table(steps: Sequence[Step]) -> str:
    """What each step costs alone."""
    rows = [(s.name, f"{s.wall_ms:.1f}", f"{s.cpu_ms:.1f}", f"{s.n_processes:.0f}") for s in steps]
    return aligned([("step, alone", "wall ms", "CPU ms", "processes"), *rows])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_json(suite: Suite, rows: Sequence[Row]) -> Mapping[str, Any]:
    """Everything, for programs."""
    return {
        "machine": machine(),
        "server_start_seconds": suite.server.start_seconds if suite.server else None,
        "rows": [asdict(row) | {"ratio": row.ratio, "met": row.is_met} for row in rows],
        "alone": {name: asdict(alone) for name, alone in suite.baselines.items()},
        "missions": {name: measured.summary() for name, measured in suite.missions.items()},
        "steps": [asdict(step) for step in suite.steps],
        "landings": [asdict(cell) for cell in suite.landings],
    }


def machine() -> Mapping[str, object]:
    """What the figures depend on."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "prefect": version("prefect"),
        "git": run(["git", "--version"]).text,
    }
