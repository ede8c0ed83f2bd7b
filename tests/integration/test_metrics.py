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
from flows.reporting.sync import open_for_reading, rebuild, sync
from tests.ledgers import START, Timed, busy_mission, records_of, small_mission, write_ledger

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


# -- the figures ------------------------------------------------------------------------------

AN_HOUR = 3600
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


@pytest.mark.parametrize("view", FIGURES)
def test_a_view_gives_the_figures_reckoned_by_hand(
    small: duckdb.DuckDBPyConnection, view: str
) -> None:
    columns, expected = FIGURES[view]
    found = small.sql(f"SELECT {columns} FROM {view} ORDER BY ALL").fetchall()
    assert [[*map(rounded, row)] for row in found] == [[*map(rounded, row)] for row in expected]


def rounded(value: object) -> object:
    return round(value, 9) if isinstance(value, float) else value


def test_every_view_is_reckoned_by_hand() -> None:
    assert FIGURES.keys() == statements("views").keys()


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
