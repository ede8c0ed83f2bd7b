"""`python -m tests.benchmarks [NAME…] [--quick] [--json FILE]`: measure, print a table, keep JSON.

Figures are ratios within one run where they can be: absolute times depend on the machine and on
what else it does, hence nothing here is asserted by a test.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from deployments.server import prefect_server
from tests.benchmarks.missions import PROJECT, BenchmarkBroken, Server
from tests.benchmarks.rows import GROUPS as MISSION_GROUPS
from tests.benchmarks.rows import QUICK, SERVERLESS, Row, Sizes, Suite
from tests.benchmarks.tables import as_json, notes, results_table, steps_table, way_table
from tests.benchmarks.train_rows import landing_tables, train

GROUPS = {**MISSION_GROUPS, "train": train}
"""What can be named on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named groups of rows, or all; 1 when a mission did not do its work."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.names or [*GROUPS]
    if unknown := [name for name in options.names if name not in GROUPS]:
        parser.error(f"there is no {', '.join(unknown)}, only {', '.join(GROUPS)}")
    sizes = QUICK if options.quick else Sizes()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    file = options.json or PROJECT / "bench-results" / f"{stamp}.json"
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        _server(Path(folder)) if set(names) - SERVERLESS else nullcontext() as server,
    ):
        suite = Suite(folder=Path(folder), server=server, sizes=sizes, say=_say)
        rows, code = _measure(suite, names)
        _print(suite, rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(as_json(suite, rows), indent=2, default=str) + "\n")
        print(f"\nkept in {file}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="few units: does it work at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench-results/")
    return parser


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    """Start the one server of all missions, measured apart."""
    for name in [n for n in os.environ if n.startswith(("PREFECT_", "MISSION_"))]:
        del os.environ[name]
    began = time.monotonic()
    with prefect_server(folder / "server-home", announce=_say):
        took = time.monotonic() - began
        record = json.loads((folder / "server-home" / "server" / "server.json").read_bytes())
        _say(f"the server started in {took:.1f} s, which is in no row")
        yield Server(group=os.getpgid(record["pid"]), start_seconds=took)


def _measure(suite: Suite, names: Sequence[str]) -> tuple[list[Row], int]:
    rows: list[Row] = []
    for name in names:
        try:
            for row in GROUPS[name](suite):
                rows.append(row)
                _say(results_table([row]).splitlines()[-1])
        except BenchmarkBroken as broken:
            _say(f"{name}: {broken}")
            return rows, 1
    return rows, 0


def _print(suite: Suite, rows: Sequence[Row]) -> None:
    if rows:
        print(f"\n{results_table(rows)}\n")
        print("\n".join(notes(rows)))
    if suite.missions:
        print(f"\n{way_table(suite.missions)}")
    if suite.steps:
        print(f"\n{steps_table(suite.steps)}")
    for table in landing_tables(suite.landings):
        print(f"\n{table}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
