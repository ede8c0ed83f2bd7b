from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocks.errors import StoreBusy
from blocks.metrics import MemoryStore, MetricsStore, NotAStore, StoreFailed
from blocks.metrics_sql import statements
from flows.ledger.log import encode
from flows.reporting.sync import open_for_reading, rebuild, rows_of, sync
from tests.ledgers import (
    START,
    Timed,
    busy_mission,
    records_of,
    small_mission,
    two_rounds,
    write_ledger,
)

Dump = dict[str, list[tuple[Any, ...]]]


def dump(connection: duckdb.DuckDBPyConnection) -> Dump:
    return {
        t: sorted(connection.sql(f"FROM {t}").fetchall(), key=repr) for t in statements("schema")
    }


def dump_file(path: Path) -> Dump:
    with duckdb.connect(str(path), read_only=True) as connection:
        return dump(connection)


def rebuilt(missions: Path) -> Dump:
    with MemoryStore() as store:
        sync(store, missions)
        return dump(store.connection)


@pytest.fixture
def missions(tmp_path: Path) -> Path:
    folder = tmp_path / "missions"
    write_ledger(folder, "m1", small_mission())
    return folder


@pytest.fixture
def store(tmp_path: Path) -> MetricsStore:
    return MetricsStore(tmp_path / "metrics.duckdb")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A store with the small mission, whose figures can be reckoned by hand."""
    folder = tmp_path_factory.mktemp("home") / "missions"
    write_ledger(folder, "m1", small_mission())
    with MemoryStore() as store:
        sync(store, folder)
        yield store.connection


@pytest.fixture(scope="module")
def agentic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A store with the mission of two rounds that agents plan, repair and judge."""
    folder = tmp_path_factory.mktemp("home") / "missions"
    write_ledger(folder, "m2", two_rounds())
    with MemoryStore() as store:
        sync(store, folder)
        yield store.connection


# -- the figures ------------------------------------------------------------------------------

AN_HOUR = 3600
NO_LINE = "no line starts with MISSION_PLAN:"
FIGURES: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    # drivers were at work for 100 s and 32 s
    "landed_per_hour": (
        "n_landed, active_hours, landed_per_hour",
        [(3, 132 / AN_HOUR, 3 / (132 / AN_HOUR))],
    ),
    # 0.5 a, 0.1 d, 0.2 + 0.4 b, 0.3 c, 0.1 e; `b · 2` and `e · 1` did not say
    "cost_per_landed_unit": (
        "n_landed, cost_usd, n_attempts_without_cost, cost_per_landed_unit_usd",
        [(3, 1.6, 2, 1.6 / 3)],
    ),
    # a, b, c, e were tried and resolved; a and c landed without a charged attempt
    "first_time_right": ("n_resolved, n_first_time_right, first_time_right_share", [(4, 2, 0.5)]),
    "unit_times": (
        (
            "unit, dependency_seconds, wait_seconds, run_seconds, between_seconds,"
            " landing_seconds, total_seconds"
        ),
        [
            ("a", 0, 0, 10, 0, 10, 20),
            ("b", 0, 0, 50, 12, 18, 80),
            ("c", 20, 0, 20, 0, 30, 70),
            ("d", 0, 10, 10, None, None, None),
            ("e", 0, 80, 120, 0, None, None),
            ("f", 220, None, None, None, None, None),
        ],
    ),
    # x.py clashed with the stack, then with green; y.py with green
    "conflict_hot_files": ("file, n_conflicts, n_units", [("src/x.py", 2, 1), ("src/y.py", 1, 1)]),
    # probes 1 to 8 ran; 3, 7 and 8 were red; 3 was green at the second look
    "flake_rate": (
        "n_runs, n_red, n_flakes, flakes_per_run, flaky_share_of_red",
        [(8, 3, 1, 1 / 8, 1 / 3)],
    ),
    "flaky_tests": ("test, n_flakes, n_missions", [("t::one", 1, 1)]),
    # 2 slots for 100 s: 10 + 30 + 10 + 20 + 10 + 10 + 8 s busy; 4 slots for 32 s: 2 + 10 s
    "slot_utilisation": (
        "slots, slot_seconds, busy_seconds, utilisation",
        [(4, 328, 110, 110 / 328)],
    ),
    "agents_compared": (
        (
            "agent, profile, model, n_attempts, n_collected, n_landed, n_charged, landed_share,"
            " mean_agent_seconds, cost_usd, cost_per_landed_usd"
        ),
        [("default", "claude", "opus", 8, 5, 3, 2, 3 / 5, 8.0, 1.6, 1.6 / 3)],
    ),
    # without that of the base, seven of ten seconds each
    "probes_per_landed_unit": (
        "n_probes, probe_seconds, probes_per_landed_unit, probe_seconds_per_landed_unit",
        [(7, 70, 7 / 3, 70 / 3)],
    ),
    "queue_losses": (
        "good_for, n_probes, probe_seconds",
        [
            ("base", 1, 10),
            ("culprit", 1, 10),
            ("flake", 2, 20),
            ("landed", 3, 30),
            ("rejection", 1, 10),
        ],
    ),
    "rounds": (
        "round, planner, planning_seconds, n_units, n_landed, n_not_landed",
        [(1, "file", 2.0, 6, 4, 2)],
    ),
    "landed_units": ("unit, attempt, probe", [("a", 1, 2), ("b", 3, 6), ("c", 1, 5)]),
    "attempts": (
        "unit, attempt, slot, run_seconds, fate, charged, detail",
        [
            ("a", 1, 0, 10, "landed", False, ""),
            ("b", 1, 1, 30, "failed", True, "exit code 1: no module | acme"),
            ("b", 2, 1, 10, "conflicted", False, "in src/x.py, src/y.py"),
            ("b", 3, 1, 10, "landed", False, ""),
            ("c", 1, 0, 20, "landed", False, ""),
            ("d", 1, 0, 10, "no change", False, ""),
            ("e", 1, 0, 110, "infrastructure", False, "host lost"),
            ("e", 2, 0, 10, "rejected", True, "1 failed"),
        ],
    ),
    "units": (
        "unit, position, status, n_attempts, n_charged, cost_usd, attempt",
        [
            ("a", 0, "landed", 1, 0, 0.5, 1),
            ("b", 1, "landed", 3, 1, 0.6, 3),
            ("c", 2, "landed", 1, 0, 0.3, 1),
            ("d", 3, "no change", 1, 0, 0.1, None),
            ("e", 4, "failed", 2, 1, 0.1, None),
            ("f", 5, "blocked", 0, 0, None, None),
        ],
    ),
    "probes": (
        "probe, kind, units, verdict, probe_seconds, good_for",
        [
            (1, "base", [], "passed", 10, "base"),
            (2, "stack", ["a"], "passed", 10, "landed"),
            (3, "stack", ["c"], "red", 10, "flake"),
            (4, "confirm", ["c"], "passed", 10, "flake"),
            (5, "stack", ["c"], "passed", 10, "landed"),
            (6, "stack", ["b"], "passed", 10, "landed"),
            (7, "stack", ["e"], "red", 10, "culprit"),
            (8, "confirm", ["e"], "red", 10, "rejection"),
        ],
    ),
    "drives": ("drive, drive_seconds, slots", [(1, 100, 2), (2, 32, 4)]),
    "missions": (
        (
            "state, stop_reason, exit_code, n_rounds, n_units, n_landed, n_no_change, n_failed,"
            " n_blocked, n_open, n_attempts"
        ),
        [("finished", "nothing left to do", 1, 1, 6, 3, 1, 1, 1, 0, 8)],
    ),
}


FIGURES_OF_ROUNDS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    # round 1: planned 10 to 40, again 62 to 76; repairs 90 to 116 and 106 to 124; judged at 140.
    # round 2: planned 140 to 166, run to 170 and from 670 to 692, judged at 700
    "round_phases": (
        "round, plan_seconds, run_seconds, fixup_seconds, evaluate_seconds, total_seconds",
        [(1, 44, 72, 34, 14, 130), (2, 26, 26, 0, 8, 60)],
    ),
    "round_scores": (
        "round, score, judged, met, n_landed, n_not_landed, n_remains",
        [(1, 0.55, 0.4, False, 3, 2, 2), (2, 0.97, 0.9, True, 1, 0, 0)],
    ),
    # a kind that a judgement does not name was not found any more, or not yet
    "convergence": (
        "kind, first_n, last_n, change",
        [("lint", 12, 2, -10), ("security", 0, 1, 1), ("types", 3, 0, -3)],
    ),
    # the planner said nothing of questions 3, 6, 7 and 10, the mender never tells tokens
    "agent_costs": (
        (
            "agent, purpose, n_runs, n_runs_without_cost, agent_seconds, cost_usd, input_tokens,"
            " output_tokens, cached_tokens, turns"
        ),
        [
            ("architect", "plan", 10, 4, 67, 0.55, 6600, 530, 2800, 9),
            ("default", "work", 8, 2, 50, 1.7, 5000, 600, 4000, 6),
            ("judge", "evaluate", 2, 0, 20, 0.2, 6000, 270, 4500, 6),
            ("mender", "fixup", 3, 1, 32, 0.4, None, None, None, None),
        ],
    ),
    "limits_met": (
        "agent, purpose, unit, ask, epoch(met_at) - 1.7e9 AS met, rest_seconds",
        [("architect", "plan", None, 10, 146, 10), ("default", "work", "b", None, 52, 30)],
    ),
    "asks": (
        "ask, purpose, round, replan, node, agent, slot, ask_seconds, outcome, problem",
        [
            (1, "plan", 1, 0, "0", "architect", 0, 10, "answered", ""),
            (2, "plan", 1, 0, "0.1", "architect", 0, 6, "unusable", NO_LINE),
            (3, "plan", 1, 0, "0.2", "architect", 1, 10, "answered", ""),
            (4, "plan", 1, 0, "0.1", "architect", 0, 10, "answered", ""),
            (5, "plan", 1, 0, "0.2.1", "architect", 1, 8, "answered", ""),
            (6, "plan", 1, 0, "0.2.2", "architect", 2, 2, "unusable", "no JSON"),
            (7, "plan", 1, 0, "0.2.2", "architect", 2, 7, "timed out", ""),
            (8, "plan", 1, 1, "0", "architect", 0, 12, "answered", ""),
            (9, "evaluate", 1, 0, "", "judge", 0, 14, "answered", ""),
            (10, "plan", 2, 0, "0", "architect", 0, 6, "rate limited", ""),
            (11, "plan", 2, 0, "0", "architect", 0, 8, "answered", ""),
            (12, "evaluate", 2, 0, "", "judge", 0, 8, "answered", ""),
        ],
    ),
    # a, b, c, d, and e by the replan
    "rounds": (
        "round, planner, planning_seconds, n_units, n_landed, n_not_landed",
        [(1, "agent", 44.0, 5, 3, 2), (2, "agent", 26.0, 1, 1, 0)],
    ),
    "missions": (
        (
            "n_rounds, n_units, n_landed, n_attempts, n_attempts_without_cost, n_asks,"
            " n_asks_without_cost, cost_usd"
        ),
        [(2, 6, 4, 11, 3, 12, 4, 2.85)],
    ),
    "cost_per_landed_unit": (
        (
            "n_landed, cost_usd, n_attempts_without_cost, n_asks_without_cost,"
            " cost_per_landed_unit_usd"
        ),
        [(4, 2.85, 3, 4, 0.7125)],
    ),
    "attempts": (
        "unit, attempt, purpose, agent, fate, turns, input_tokens, output_tokens, cached_tokens",
        [
            ("a", 1, "work", "default", "landed", 6, 5000, 600, 4000),
            ("b", 1, "work", "default", "rate limited", None, None, None, None),
            ("b", 2, "work", "default", "landed", None, None, None, None),
            ("c", 1, "work", "default", "rejected", None, None, None, None),
            ("c@1.1.1", 1, "fixup", "mender", "failed", None, None, None, None),
            ("c@1.1.2", 1, "fixup", "mender", "collected", None, None, None, None),
            ("d", 1, "work", "default", "failed", None, None, None, None),
            ("e", 1, "work", "default", "rejected", None, None, None, None),
            ("e@1.1.1", 1, "fixup", "mender", "timed out", None, None, None, None),
            ("g", 1, "work", "default", "infrastructure", None, None, None, None),
            ("g", 2, "work", "default", "landed", None, None, None, None),
        ],
    ),
}
"""The same for the mission of two rounds: what it has and the small one has not."""


@pytest.mark.parametrize("view", FIGURES)
def test_a_view_gives_the_figures_reckoned_by_hand(
    small: duckdb.DuckDBPyConnection, view: str
) -> None:
    assert_figures(small, view, *FIGURES[view])


@pytest.mark.parametrize("view", FIGURES_OF_ROUNDS)
def test_a_view_of_rounds_gives_the_figures_reckoned_by_hand(
    agentic: duckdb.DuckDBPyConnection, view: str
) -> None:
    assert_figures(agentic, view, *FIGURES_OF_ROUNDS[view])


def assert_figures(
    connection: duckdb.DuckDBPyConnection, view: str, columns: str, expected: list[tuple[Any, ...]]
) -> None:
    found = connection.sql(f"SELECT {columns} FROM {view} ORDER BY ALL").fetchall()
    assert [[*map(rounded, row)] for row in found] == [[*map(rounded, row)] for row in expected]


def rounded(value: object) -> object:
    return round(value, 9) if isinstance(value, float) else value


def test_every_view_is_reckoned_by_hand() -> None:
    assert FIGURES.keys() | FIGURES_OF_ROUNDS.keys() == statements("views").keys()


PHASES = (
    "SELECT round, plan_seconds, run_seconds, fixup_seconds, evaluate_seconds, total_seconds"
    " FROM round_phases ORDER BY round"
)


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (30, [(1, 20, None, 0, None, 20)]),  # planning, and nothing else yet
        (60, [(1, 30, 20, 0, None, 50)]),  # running
        (70, [(1, 38, 22, 0, None, 60)]),  # planning anew since 62
        (116, [(1, 44, 62, 26, None, 106)]),  # one repair done, another under way
        (126, [(1, 44, 72, 34, 0, 116)]),  # the judge was asked just now
        (170, [(1, 44, 72, 34, 14, 130), (2, 26, 4, 0, None, 30)]),  # interrupted
    ],
)
def test_phases_that_go_on_count_up_to_the_last_event(
    tmp_path: Path, until: float, expected: list[tuple[float | None, ...]]
) -> None:
    write_ledger(tmp_path, "m2", [(at, event) for at, event in two_rounds() if at <= until])
    with MemoryStore() as store:
        sync(store, tmp_path)
        assert store.connection.sql(PHASES).fetchall() == expected


def test_phases_add_up_at_any_moment_of_a_mission(tmp_path: Path) -> None:
    with MemoryStore() as store, store.writing() as writer:
        for record in records_of(two_rounds()):
            writer.add(rows_of("m2", record, writer.columns))
            if record.seq % 5:
                continue
            for _, plan, run, fixup, evaluate, total in store.connection.sql(PHASES).fetchall():
                assert plan + (run or 0) + (evaluate or 0) == pytest.approx(total)
                assert min(plan, run or 0, fixup, evaluate or 0) >= 0
                assert fixup <= total


def test_a_clock_that_is_set_back_makes_no_time_negative(tmp_path: Path) -> None:
    back = [(at - 60 if at > 75 else at, event) for at, event in two_rounds()]
    write_ledger(tmp_path, "m2", back)
    with MemoryStore() as store:
        sync(store, tmp_path)
        for _, *times in store.connection.sql(PHASES).fetchall():
            plan, run, fixup, evaluate, total = (time or 0 for time in times)
            assert min(plan, run, fixup, evaluate) >= 0
            assert plan + run + evaluate == pytest.approx(total)


def test_a_round_that_nobody_judges_has_no_time_of_evaluation(
    small: duckdb.DuckDBPyConnection,
) -> None:
    assert small.sql(PHASES).fetchall() == [(1, 2, 120, 0, None, 122)]


def test_a_mission_whose_agents_tell_nothing_has_no_figures_instead_of_0(
    small: duckdb.DuckDBPyConnection,
) -> None:
    told = "input_tokens, output_tokens, cached_tokens, turns"
    assert small.sql(f"SELECT {told} FROM agent_costs").fetchall() == [(None,) * 4]
    assert small.sql("FROM limits_met").fetchall() == []
    assert small.sql("FROM convergence").fetchall() == []


def test_a_mission_of_which_only_questions_have_a_cost_has_that_cost(tmp_path: Path) -> None:
    write_ledger(tmp_path, "m2", [(at, event) for at, event in two_rounds() if at <= 40])
    with MemoryStore() as store:
        sync(store, tmp_path)
        found = store.connection.sql("SELECT cost_usd FROM cost_per_landed_unit").fetchall()
    assert [rounded(cost) for (cost,) in found] == [0.25]


def test_every_table_view_and_column_says_what_it_is(small: duckdb.DuckDBPyConnection) -> None:
    for catalog in ("duckdb_tables", "duckdb_views", "duckdb_columns"):
        silent = small.sql(
            f"FROM {catalog}() WHERE NOT internal AND coalesce(comment, '') = ''"
        ).fetchall()
        assert silent == []
    names = {row[0] for row in small.sql("SELECT column_name FROM duckdb_columns()").fetchall()}
    assert not {"seconds", "cost", "memory", "timeout", "duration"} & names


def test_the_spans_of_a_landed_unit_add_up_to_its_time(tmp_path: Path) -> None:
    write_ledger(tmp_path, "busy", busy_mission(n_units=60))
    with MemoryStore() as store:
        sync(store, tmp_path)
        times = store.connection.sql(
            "SELECT dependency_seconds, wait_seconds, run_seconds, between_seconds,"
            " landing_seconds, total_seconds FROM unit_times WHERE landed_at IS NOT NULL"
        ).fetchall()
    assert len(times) > 40
    for *spans, total in times:
        assert sum(spans) == pytest.approx(total, abs=1e-4)
        assert min(spans) > -1e-4


def test_a_mission_without_anything_landed_has_no_ratios_instead_of_wrong_ones(
    tmp_path: Path,
) -> None:
    write_ledger(tmp_path, "m1", small_mission()[:1])
    with MemoryStore() as store:
        sync(store, tmp_path)
        for view, column in (
            ("landed_per_hour", "landed_per_hour"),
            ("cost_per_landed_unit", "cost_per_landed_unit_usd"),
            ("slot_utilisation", "utilisation"),
            ("probes_per_landed_unit", "probes_per_landed_unit"),
        ):
            assert store.connection.sql(f"SELECT {column} FROM {view}").fetchall() == [(None,)]
        assert store.connection.sql("SELECT state FROM missions").fetchall() == [("unfinished",)]


def test_a_unit_is_waiting_running_landing_before_it_ends(tmp_path: Path) -> None:
    events = small_mission()
    until_52 = [(at, event) for at, event in events if at <= 52]
    write_ledger(tmp_path, "m1", until_52)
    with MemoryStore() as store:
        sync(store, tmp_path)
        found = store.connection.sql("SELECT unit, status FROM units").fetchall()
    assert dict(found) == {
        "a": "landed",
        "b": "running",
        "c": "landing",
        "d": "no change",
        "e": "waiting",
        "f": "waiting",
    }


# -- ledgers to rows --------------------------------------------------------------------------

BUSY = busy_mission(n_units=8)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, len(BUSY)), max_size=4))
def test_syncing_at_any_moments_gives_what_one_sync_gives(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("missions")
    with MemoryStore() as store:
        for cut in [*sorted(cuts), len(BUSY)]:
            write_ledger(folder, "busy", BUSY[:cut])
            result = sync(store, folder)
            assert result.rebuilt == ()
        stepwise = dump(store.connection)
    assert stepwise == rebuilt(folder)
    assert len(stepwise["events"]) == len(BUSY)


def test_a_second_sync_finds_nothing_new(store: MetricsStore, missions: Path) -> None:
    first, second = sync(store, missions), sync(store, missions)
    assert (first.missions, first.n_records) == (("m1",), len(small_mission()))
    assert (second.missions, second.n_records) == ((), 0)


def test_a_mission_that_agents_planned_is_rebuilt_alike(
    store: MetricsStore, missions: Path
) -> None:
    write_ledger(missions, "m2", two_rounds()[:40])
    sync(store, missions)
    write_ledger(missions, "m2", two_rounds())
    sync(store, missions)
    followed = dump_file(store.path)
    rebuild(store, missions)
    assert followed == dump_file(store.path) == rebuilt(missions)
    assert [(path, depth) for _, _, _, path, _, depth, *_ in followed["plan_nodes"]] == [
        ("0", 0),
        ("0.1", 1),
        ("0.2", 1),
        ("0.2.1", 2),
        ("0.2.2", 2),
        ("0", 0),
        ("0", 0),
    ]


def test_only_one_mission_is_synced_when_asked(store: MetricsStore, missions: Path) -> None:
    write_ledger(missions, "m2", small_mission("m2"))
    sync(store, missions)
    write_ledger(missions, "m3", small_mission("m3"))
    assert sync(store, missions, only="m3").missions == ("m3",)
    assert dump_file(store.path) == rebuilt(missions)


def test_a_mission_whose_ledger_is_gone_is_forgotten(store: MetricsStore, missions: Path) -> None:
    gone = write_ledger(missions, "m2", small_mission("m2"))
    sync(store, missions)
    gone.unlink()
    assert sync(store, missions).forgotten == ("m2",)
    assert dump_file(store.path) == rebuilt(missions)


def test_records_that_were_taken_back_are_taken_back_here_too(
    store: MetricsStore, missions: Path
) -> None:
    sync(store, missions)
    events = small_mission()
    write_ledger(missions, "m1", [*events[:30], *((at + 1, event) for at, event in events[30:])])
    assert sync(store, missions).rebuilt == ("m1",)
    write_ledger(missions, "m1", events[:20])
    assert sync(store, missions).rebuilt == ("m1",)
    assert dump_file(store.path) == rebuilt(missions)


def test_a_damaged_ledger_is_named_and_the_others_are_synced(
    store: MetricsStore, missions: Path
) -> None:
    damaged = write_ledger(missions, "m0", small_mission("m0"))
    damaged.write_bytes(b"not json\n" + damaged.read_bytes())
    result = sync(store, missions)
    assert result.missions == ("m1",)
    assert "ledger.jsonl:1" in result.unreadable["m0"]


def test_a_torn_last_line_is_read_when_it_is_whole(store: MetricsStore, missions: Path) -> None:
    path = missions / "m1" / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    n_records = sync(store, missions).n_records
    path.write_bytes(whole)
    assert (n_records, sync(store, missions).n_records) == (len(small_mission()) - 1, 1)


# -- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "flipped", "flipped and cut wal"])
def test_a_damaged_file_is_made_anew_and_the_old_one_kept(
    store: MetricsStore, missions: Path, damage: str
) -> None:
    sync(store, missions)
    whole = store.path.read_bytes()
    flipped = bytes(b ^ 0x5A if i % 7 == 0 and i > 4096 else b for i, b in enumerate(whole))
    kinds = {"garbage": b"no database" * 999, "empty": b"", "cut": whole[:5000]}
    store.path.write_bytes(kinds.get(damage, flipped))
    if "wal" in damage:
        store.path.with_name("metrics.duckdb.wal").write_bytes(b"\x00\x01torn")
    sync(store, missions)
    assert dump_file(store.path) == rebuilt(missions)
    assert store.path.with_name("metrics.duckdb.aside").exists()


def test_damage_that_shows_only_when_it_is_read_is_read_around_and_mended_by_a_rebuild(
    store: MetricsStore, missions: Path
) -> None:
    sync(store, missions)
    store.path.write_bytes(store.path.read_bytes()[: store.path.stat().st_size // 2])
    with open_for_reading(store.path) as copy:
        assert dump(copy.connection) == rebuilt(missions)
    rebuild(store, missions)
    assert dump_file(store.path) == rebuilt(missions)


def test_a_file_of_another_schema_is_made_anew(store: MetricsStore, missions: Path) -> None:
    with duckdb.connect(str(store.path)) as old:
        old.execute("CREATE TABLE metrics_schema (digest VARCHAR)")
        old.execute("INSERT INTO metrics_schema VALUES ('older')")
        old.execute("CREATE TABLE landings (mission VARCHAR, number BIGINT)")
        old.execute("CREATE VIEW missions AS SELECT mission FROM landings")
    sync(store, missions)
    assert dump_file(store.path) == rebuilt(missions)


def test_somebody_elses_database_is_refused_and_left_alone(
    store: MetricsStore, missions: Path
) -> None:
    with duckdb.connect(str(store.path)) as foreign:
        foreign.execute("CREATE TABLE accounts AS SELECT 42 AS balance")
    with pytest.raises(NotAStore, match="accounts"):
        sync(store, missions)
    with duckdb.connect(str(store.path)) as foreign:
        assert foreign.sql("FROM accounts").fetchall() == [(42,)]


def test_a_folder_that_cannot_be_made_is_no_crash(tmp_path: Path, missions: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = MetricsStore(tmp_path / "file" / "metrics.duckdb")
    with pytest.raises(StoreBusy, match=r"exists|directory"):
        sync(store, missions, patience_seconds=0)


def test_what_duckdb_refuses_is_said_as_an_error_of_ours(store: MetricsStore) -> None:
    with pytest.raises(StoreFailed, match="unheard_of"), store.writing():
        duckdb.sql("FROM unheard_of")


HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.stdin.close()


@pytest.mark.parametrize("how", ["write", "read"])
def test_a_file_that_is_held_is_busy_and_its_holder_is_named(
    store: MetricsStore, missions: Path, how: str
) -> None:
    sync(store, missions)
    with (
        held_by_another_process(store.path, how) as holder,
        pytest.raises(StoreBusy, match=f"process {holder.pid}"),
    ):
        sync(store, missions, patience_seconds=0)


def test_a_busy_file_is_waited_for(store: MetricsStore, missions: Path) -> None:
    sync(store, missions)
    write_ledger(missions, "m2", small_mission("m2"))
    with held_by_another_process(store.path, "read") as holder:
        assert holder.stdin
        release = threading.Timer(0.3, holder.stdin.close)
        release.start()
        assert sync(store, missions, patience_seconds=30).missions == ("m2",)
        release.join()


def test_another_thread_that_writes_makes_the_file_busy_or_waits(
    store: MetricsStore, missions: Path
) -> None:
    sync(store, missions)
    write_ledger(missions, "m2", small_mission("m2"))
    threads = [threading.Thread(target=sync, args=(store, missions)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dump_file(store.path) == rebuilt(missions)


def test_reading_needs_no_file_and_leaves_none(missions: Path) -> None:
    path = missions.parent / "metrics.duckdb"
    with open_for_reading(path) as copy:
        assert copy.connection.sql("SELECT mission FROM missions").fetchall() == [("m1",)]
    assert not path.exists()


def test_reading_works_while_another_process_writes(store: MetricsStore, missions: Path) -> None:
    sync(store, missions)
    with held_by_another_process(store.path, "write"), open_for_reading(store.path) as copy:
        assert dump(copy.connection) == rebuilt(missions)


def test_a_reader_shuts_nobody_out_and_sees_what_is_newer(
    store: MetricsStore, missions: Path
) -> None:
    sync(store, missions)
    write_ledger(missions, "m2", small_mission("m2"))
    before = store.path.read_bytes()
    with open_for_reading(store.path) as copy:
        assert dump(copy.connection) == rebuilt(missions)
        assert store.path.read_bytes() == before
        with held_by_another_process(store.path, "write"):
            pass


def test_reading_a_file_without_ledgers_shows_what_it_holds(
    store: MetricsStore, missions: Path, tmp_path: Path
) -> None:
    sync(store, missions)
    with open_for_reading(store.path, tmp_path / "elsewhere") as copy:
        assert dump(copy.connection) == rebuilt(missions)


def test_a_damaged_file_is_read_around_and_not_touched(store: MetricsStore, missions: Path) -> None:
    store.path.write_bytes(b"no database" * 999)
    with open_for_reading(store.path) as copy:
        assert dump(copy.connection) == rebuilt(missions)
    assert store.path.read_bytes() == b"no database" * 999


# -- death ------------------------------------------------------------------------------------

SYNC = """
import sys
from pathlib import Path
from blocks.metrics import MetricsStore
from flows.reporting import sync
sync._BATCH = 40
print("ready", flush=True)
sync.sync(MetricsStore(Path(sys.argv[1])), Path(sys.argv[2]))
print("done", flush=True)
"""


def killed_after(seconds: float, store: MetricsStore, missions: Path) -> bool:
    """Sync in a process that is killed; False when it was done before."""
    argv = [sys.executable, "-c", SYNC, str(store.path), str(missions)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
        return child.wait() != 0


def test_a_sync_that_is_killed_at_any_point_is_made_good_by_the_next(
    store: MetricsStore, missions: Path
) -> None:
    lines = [encode(record) for record in records_of(busy_mission(n_units=60))]
    path = missions / "busy" / "ledger.jsonl"
    path.parent.mkdir()
    n_killed = 0
    for i in range(1, 8):
        path.write_bytes(b"".join(lines[: len(lines) * i // 7]))
        n_killed += killed_after(0.02 + 0.03 * i, store, missions)
    assert n_killed >= 3
    sync(store, missions)
    assert dump_file(store.path) == rebuilt(missions)


def test_ledgers_of_a_live_mission_can_be_synced_line_by_line(
    store: MetricsStore, missions: Path
) -> None:
    events: list[Timed] = small_mission("live")
    path = missions / "live" / "ledger.jsonl"
    path.parent.mkdir()
    for record in records_of(events):
        with path.open("ab") as ledger:
            ledger.write(encode(record))
        if record.seq % 9 == 0:
            assert sync(store, missions, only="live").n_records in {9, 0}
    sync(store, missions)
    assert dump_file(store.path) == rebuilt(missions)
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert last["at"] == START + 232
