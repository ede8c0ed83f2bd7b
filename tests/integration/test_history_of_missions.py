from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from blocks.metrics import MetricsStore
from flows.ledger.events import Event, PlanMade
from flows.planning.history import COMMANDS, History, Quantiles, read_history
from flows.reporting.sync import sync
from tests.ledgers import (
    Timed,
    answered,
    begun,
    ended,
    landing,
    probing,
    stacked,
    started,
    two_rounds,
    unit,
    verdict,
    write_ledger,
)

URL = "/srv/acme"
ROOT = Path(__file__).parents[2]


def of(home: Path, url: str = URL) -> History:
    return read_history(home / "metrics.duckdb", home / "missions", url)


def ten_attempts(mission: str = "m1", url: str = URL) -> list[Timed]:
    """Attempts of 10, 20, …, 100 s for $0.10 to $1.00, of which the first five land."""
    names = [f"u{i}" for i in range(1, 11)]
    events: list[Timed] = [(0, started(mission, 4, repository=url))]
    events += [(1, PlanMade(round=1, planner="file", units=[unit(name) for name in names]))]
    for i, name in enumerate(names, start=1):
        took = 10.0 * i
        end = ended(name, 1, agent_seconds=took, cost_usd=i / 10)
        events += [(1, begun(name, 1, 0)), (1 + took, end)]
    for i, name in enumerate(names[:5], start=1):
        commit, at = f"c{i}", 200.0 + i
        events += [(at, stacked(name, 1, "base", commit)), (at, probing(i, commit, name))]
        events += [(at + 9, event) for event in (verdict(i), *landing(i, None, commit, name))]
    return sorted(events, key=lambda timed: timed[0])


def test_a_home_without_missions_tells_nothing_and_stays_empty(tmp_path: Path) -> None:
    assert of(tmp_path) == History()
    assert [*tmp_path.iterdir()] == []


def test_quantiles_are_those_of_all_attempts_of_an_agent(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", ten_attempts())
    found = of(tmp_path)
    (known,) = found.agents.values()
    assert (found.n_missions, known.n_attempts, known.n_costs) == (1, 10, 10)
    assert known.seconds == Quantiles(low=19, middle=55, high=91)
    assert known.cost_usd is not None
    assert known.cost_usd.low == pytest.approx(0.19)
    assert known.attempts_per_landed == 2
    assert found.verify_seconds == Quantiles(low=9, middle=9, high=9)


def test_repairs_questions_and_what_was_not_the_works_fault_are_left_out(tmp_path: Path) -> None:
    """Of `two_rounds`: not the rate limit of b, not the lost host of g, not menders or planners."""
    write_ledger(tmp_path / "missions", "m2", two_rounds())
    ((name, known),) = of(tmp_path).agents.items()
    assert (name, known.n_attempts, known.n_costs) == ("default", 6, 6)
    assert known.seconds == Quantiles(low=8, middle=8, high=8)
    assert known.cost_usd is not None
    costs = (known.cost_usd.low, known.cost_usd.middle, known.cost_usd.high)
    assert costs == pytest.approx((0.15, 0.25, 0.45))
    assert known.attempts_per_landed == 6 / 4


def test_only_missions_of_the_same_repository_count(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", ten_attempts())
    write_ledger(tmp_path / "missions", "m2", ten_attempts("m2"))
    write_ledger(tmp_path / "missions", "m3", ten_attempts("m3", url="/srv/other"))
    assert of(tmp_path).agents["default"].n_attempts == 20
    assert of(tmp_path, "/srv/other").n_missions == 1
    assert of(tmp_path, "/srv/third") == History()


def test_units_with_a_command_of_their_own_are_put_together(tmp_path: Path) -> None:
    own = {**unit("b"), "command": ["ruff", "check"]}
    happened: list[Event] = [
        started("m1", 1),
        PlanMade(round=1, planner="tidy", units=[unit("a"), own]),
        begun("a", 1, 0),
        ended("a", 1, agent_seconds=5.0),
        begun("b", 1, 0),
        ended("b", 1, agent_seconds=0.5),
    ]
    write_ledger(tmp_path / "missions", "m1", enumerate(happened))
    found = of(tmp_path).agents
    assert {name: known.seconds.middle for name, known in found.items()} == {
        "default": 5.0,
        COMMANDS: 0.5,
    }


def test_what_ran_and_told_nothing_has_no_cost_instead_of_none(tmp_path: Path) -> None:
    happened: list[Event] = [started("m1", 1), begun("a", 1, 0), ended("a", 1, "failed")]
    write_ledger(tmp_path / "missions", "m1", enumerate(happened))
    known = of(tmp_path).agents["default"]
    assert (known.n_costs, known.cost_usd, known.attempts_per_landed) == (0, None, None)
    assert of(tmp_path).verify_seconds is None


def test_a_question_alone_is_no_attempt(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", enumerate([started("m1", 1), answered(1, 5.0, 0.5)]))
    assert of(tmp_path) == History(n_missions=1)


def test_reading_holds_no_file_and_works_while_a_mission_writes(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", ten_attempts())
    without = of(tmp_path)
    store = MetricsStore(tmp_path / "metrics.duckdb")
    sync(store, tmp_path / "missions")
    before = store.path.read_bytes()
    assert of(tmp_path) == without
    with duckdb.connect(str(store.path)):
        assert of(tmp_path) == without
    assert store.path.read_bytes() == before


ACME = "https://git.example.invalid/acme.git"
MISSION = f"""\
name = "m"
repository.url = "{ACME}"
verify = {{ command = "make check", slots = 1 }}
plan.file = "plan.toml"
agents.default = {{ argv = ["fix"], max_usd = 0.5 }}
backend.slots = 4
"""
PLAN = """\
[[unit]]
id = "a"
title = "A"
[[unit]]
id = "b"
title = "B"
depends_on = ["a"]
"""
RUN = """\
import sys
from flows.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
assert "prefect" not in sys.modules, "it imports Prefect"
"""


def planned(home: Path, folder: Path, *options: str) -> str:
    (folder / "mission.toml").write_text(MISSION)
    (folder / "plan.toml").write_text(PLAN)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "plan", str(folder / "mission.toml"), *options],
        cwd=ROOT,
        env={"MISSION_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_plan_says_what_it_may_take_by_earlier_missions(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    folder.mkdir()
    assert "unknown (no earlier mission of this repository)" in planned(home, folder)
    assert not home.exists()
    write_ledger(home / "missions", "m1", ten_attempts(url=ACME))
    # in a row: 2 * (19 + 9) to 2 * 2 * (91 + 9); $0.19 to 2 * $0.91 each
    lines = planned(home, folder).splitlines()
    rows = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines}
    assert rows["time"] == "56s to 6m40s"
    assert rows["cost"] == "$0.38 to $3.64"
    assert rows["worst overshoot of the budget"] == "$2.00"
    value = json.loads(planned(home, folder, "--json"))
    assert (value["seconds_low"], value["seconds_high"]) == (56, 400)
    assert value["cost_usd_low"] == pytest.approx(0.38)
    assert value["cost_usd_high"] == pytest.approx(3.64)
    assert value["overshoot_usd"] == 2.0
