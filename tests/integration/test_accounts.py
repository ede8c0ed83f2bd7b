"""What missions share of their agents' accounts, with real files, processes and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from flows.running.accounts import KEPT_DAYS, Accounts, account_key
from tests.missions import wait_until

DAY = 86_400.0
NOON = datetime(2026, 5, 4, 12).timestamp()  # noqa: DTZ001 - local days are meant
TODAY = "spending-2026-05-04.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "accounts"


@pytest.fixture
def accounts(folder: Path) -> Accounts:
    return Accounts(folder)


# -- names -----------------------------------------------------------------------------------------


def test_the_same_profile_address_and_keys_are_one_account() -> None:
    one = account_key("codex", "https://api.example/v1", ["env/A", "env/B"])
    assert one == account_key("codex", "https://api.example/v1/", ["env/B", "env/A", "env/A"])
    others = [
        account_key("claude", "https://api.example/v1", ["env/A", "env/B"]),
        account_key("codex", "https://api.example/v2", ["env/A", "env/B"]),
        account_key("codex", "https://api.example/v1", ["env/A"]),
        account_key("codex", "", []),
    ]
    assert len({one, *others}) == 5
    assert one.startswith("codex-")


def test_nothing_of_address_and_keys_is_in_a_name() -> None:
    name = account_key("my agent/ü", "https://u:pass@host", ["sk-abcdef"])
    assert name.startswith("my-agent-")
    assert not any(part in name for part in ("pass", "host", "abcdef", "/", " "))


# -- quota -----------------------------------------------------------------------------------------


def test_nobody_rests_where_nothing_was_told(accounts: Accounts, folder: Path) -> None:
    assert accounts.resting(NOON) == {}
    assert accounts.spent_on_day_of(NOON) == 0
    assert not folder.exists()


def test_an_account_rests_until_its_time_and_the_later_end_wins(accounts: Accounts) -> None:
    accounts.rest("a", NOON + 60, mission="m1", why="429")
    accounts.rest("a", NOON + 90, mission="m2", why="429")
    accounts.rest("a", NOON + 30, mission="m3", why="429")
    accounts.rest("b", NOON - 1, mission="m1", why="over")
    assert accounts.resting(NOON) == {"a": NOON + 90}
    assert accounts.resting(NOON + 90) == {}


def test_other_processes_are_told_at_once(accounts: Accounts, folder: Path) -> None:
    for until in range(1, 60):
        assert accounts.resting(0) == ({"a": until - 1} if until > 1 else {})
        Accounts(folder).rest("a", until, mission="m", why="")


def test_a_change_shows_also_while_the_clock_of_the_files_stands_still(
    accounts: Accounts, folder: Path
) -> None:
    accounts.rest("a", 1, mission="m", why="")
    later = time.time_ns() + 10**12
    os.utime(folder / "resting.json", ns=(later, later))
    accounts.rest("a", 2, mission="m", why="")
    assert (folder / "resting.json").stat().st_mtime_ns > later


def test_while_nothing_changes_nothing_is_read(accounts: Accounts, folder: Path) -> None:
    accounts.rest("a", NOON, mission="m", why="")
    accounts.spend("m", 1, 2.0, NOON)
    assert (accounts.resting(0), accounts.spent_on_day_of(NOON)) == ({"a": NOON}, 2.0)
    for name in ("resting.json", TODAY):  # who reads now reads nonsense
        path = folder / name
        found = path.stat()
        with path.open("r+b") as file:
            file.write(b"#" * found.st_size)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (accounts.resting(0), accounts.spent_on_day_of(NOON)) == ({"a": NOON}, 2.0)
    assert (Accounts(folder).resting(0), Accounts(folder).spent_on_day_of(NOON)) == ({}, 0.0)


@pytest.mark.parametrize("until", [float("nan"), float("inf"), 1e300])
def test_what_is_no_time_is_not_kept(accounts: Accounts, until: float) -> None:
    with pytest.raises(ValueError, match="not a time"):
        accounts.rest("a", until, mission="m", why="")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"a": 1}', '{"a": {"until": "x"}}', f'{{"a": {{"until": 1{"0" * 400}}}}}'],
)
def test_a_damaged_file_is_no_rest_and_mended_by_the_next(accounts: Accounts, text: str) -> None:
    accounts.rest("b", NOON, mission="m", why="")
    (accounts.folder / "resting.json").write_text(text)
    assert accounts.resting(0) == {}
    accounts.rest("a", NOON, mission="m", why="w" * 9_000)
    assert accounts.resting(0) == {"a": NOON}


# -- money -----------------------------------------------------------------------------------------


def test_a_day_is_the_sum_of_all_missions_and_each_record_counts_once(accounts: Accounts) -> None:
    accounts.spend("m1", 1, 0.5, NOON)
    accounts.spend("m1", 1, 0.5, NOON)
    accounts.spend("m2", 1, 0.25, NOON + 60)
    accounts.spend("m1", 2, 1.0, NOON - DAY)
    assert accounts.spent_on_day_of(NOON) == 0.75
    assert accounts.spent_on_day_of(NOON - DAY) == 1.0
    assert accounts.spent_on_day_of(NOON + DAY) == 0.0
    assert accounts.spent_on_day_of(NOON) == 0.75


def test_a_record_that_two_processes_write_counts_once(accounts: Accounts, folder: Path) -> None:
    accounts.spend("m", 1, 0.5, NOON)
    line = (folder / TODAY).read_bytes()
    (folder / TODAY).write_bytes(line * 2 + line.replace(b"0.5", b"0.7"))
    assert Accounts(folder).spent_on_day_of(NOON) == accounts.spent_on_day_of(NOON) == 0.5


def test_days_are_local_ones(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "AHEAD-14")
        time.tzset()
        accounts.spend("m", 1, 1.0, 0.0)
        assert (accounts.folder / "spending-1970-01-01.jsonl").exists()
        assert accounts.spent_on_day_of(9 * 3600) == 1.0
        assert accounts.spent_on_day_of(10 * 3600) == 0.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_what_is_no_amount_is_not_kept(accounts: Accounts, usd: float) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        accounts.spend("m", 1, usd, NOON)


def test_lines_that_are_torn_or_nonsense_spoil_nothing(accounts: Accounts, folder: Path) -> None:
    accounts.spend("m", 1, 1.0, NOON)
    for junk in (
        b'{"mission": "m", "se',
        b"\xff\n",
        b'{"mission": 1, "seq": 2, "usd": 3}\n',
        b"7\n",
    ):
        with (folder / TODAY).open("ab") as file:
            file.write(junk)
        assert accounts.spent_on_day_of(NOON) == 1.0
    with (folder / TODAY).open("ab") as file:
        file.write(b'\n{"mission": "m", "seq": 2, "usd": ')
    assert accounts.spent_on_day_of(NOON) == 1.0
    accounts.spend("m", 2, 2.0, NOON)
    assert accounts.spent_on_day_of(NOON) == Accounts(folder).spent_on_day_of(NOON) == 3.0


def test_old_days_are_dropped(accounts: Accounts, folder: Path) -> None:
    for age in (KEPT_DAYS + 1, KEPT_DAYS, 1):
        accounts.spend("m", 1, 1.0, NOON - age * DAY)
    (folder / "spending-notes.jsonl").touch()
    accounts.spend("m", 2, 1.0, NOON)
    assert accounts.spent_on_day_of(NOON - KEPT_DAYS * DAY) == 1.0
    assert len([*folder.glob("spending-2026*")]) == 3
    assert (folder / "spending-notes.jsonl").exists()


def test_a_file_that_was_taken_away_is_forgotten(accounts: Accounts, folder: Path) -> None:
    accounts.spend("m", 1, 1.0, NOON)
    assert accounts.spent_on_day_of(NOON) == 1.0
    os.truncate(folder / TODAY, 5)
    assert accounts.spent_on_day_of(NOON) == 0.0
    (folder / TODAY).unlink()
    assert accounts.spent_on_day_of(NOON) == 0.0
    accounts.spend("m", 1, 1.0, NOON)
    assert accounts.spent_on_day_of(NOON) == 1.0


# -- several at once -------------------------------------------------------------------------------

SPENDER = """
import sys
from pathlib import Path
from flows.running.accounts import Accounts
folder, mission, at = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
accounts, seq = Accounts(folder), 0
while seq < int(sys.argv[4]):
    seq += 1
    accounts.spend(mission, seq, 0.5, at)
    accounts.spend("both", seq, 0.25, at)
    accounts.rest(mission, seq, mission=mission, why="429")
    accounts.rest("both", seq, mission=mission, why="429")
    print(seq, flush=True)
"""


@pytest.fixture
def spenders(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


def spender(folder: Path, mission: str, n: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", SPENDER, str(folder), mission, str(NOON), str(n)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_two_processes_spend_at_once_and_nothing_is_lost(
    folder: Path, spenders: list[subprocess.Popen[str]], accounts: Accounts
) -> None:
    spenders += [spender(folder, name, 100) for name in ("m1", "m2")]
    sums = [0.0]
    while any(process.poll() is None for process in spenders):
        sums.append(accounts.spent_on_day_of(NOON))
        assert accounts.resting(0).get("both", 0) <= 100
    assert [process.returncode for process in spenders] == [0, 0]
    assert sums == sorted(sums)
    assert accounts.spent_on_day_of(NOON) == Accounts(folder).spent_on_day_of(NOON) == 125.0
    assert accounts.resting(0) == {"m1": 100, "m2": 100, "both": 100}


def test_who_is_killed_loses_nothing_that_was_kept(
    folder: Path, spenders: list[subprocess.Popen[str]], accounts: Accounts
) -> None:
    for life in range(5):
        process = spender(folder, f"m{life}", 1_000_000)
        spenders.append(process)
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(5 + life * 7)][-1]
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = max([told, *map(int, process.stdout.read().split())])
        mine = [
            json.loads(line)["seq"]
            for line in (folder / TODAY).read_text().split("\n")
            if f'"m{life}"' in line
        ]
        assert told <= len(mine) <= told + 1
        assert accounts.resting(0)[f"m{life}"] in {told, told + 1}
    accounts.rest("new", 7, mission="m", why="")
    assert {p.name for p in folder.iterdir()} == {"lock", "resting.json", TODAY}


def test_who_holds_the_lock_makes_others_wait_and_readers_do_not(
    folder: Path, accounts: Accounts, spenders: list[subprocess.Popen[str]]
) -> None:
    accounts.rest("a", 5, mission="m", why="")
    held = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", held, str(folder / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    spenders.append(holder)
    assert holder.stdout is not None
    holder.stdout.readline()
    other = Accounts(folder)
    waiting = Thread(target=other.rest, args=("a", 9), kwargs={"mission": "m", "why": ""})
    waiting.start()
    accounts.spend("m", 1, 1.0, NOON)
    assert accounts.resting(0) == {"a": 5}
    holder.kill()
    wait_until(lambda: accounts.resting(0) == {"a": 9})
    waiting.join()


# -- any order of events ---------------------------------------------------------------------------


class Shared(RuleBasedStateMachine):
    """Two processes' worth of accounts on one folder, held against plain dictionaries."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.here = self.folder / str(time.monotonic_ns())
        self.both = [Accounts(self.here), Accounts(self.here)]
        self.costs: dict[int, dict[tuple[str, int], int]] = {0: {}, 1: {}}
        self.rests: dict[str, float] = {}

    @rule(
        who=st.integers(0, 1),
        mission=st.sampled_from("ab"),
        seq=st.integers(1, 4),
        eighths=st.integers(0, 80),
        day=st.integers(0, 1),
    )
    def spend(self, who: int, mission: str, seq: int, eighths: int, day: int) -> None:
        self.both[who].spend(mission, seq, eighths / 8, NOON + day * DAY)
        self.costs[day].setdefault((mission, seq), eighths)

    @rule(who=st.integers(0, 1), account=st.sampled_from("xyz"), until=st.integers(-5, 30))
    def rest(self, who: int, account: str, until: int) -> None:
        self.both[who].rest(account, until, mission="m", why="w")
        self.rests[account] = max(until, self.rests.get(account, until))

    @rule(who=st.integers(0, 1))
    def begin_anew(self, who: int) -> None:
        self.both[who] = Accounts(self.here)

    @rule(day=st.integers(0, 1), part=st.binary(max_size=12).filter(lambda b: b"\n" not in b))
    def tear(self, day: int, part: bytes) -> None:
        path = self.both[0]._file_of(NOON + day * DAY)
        if path.exists():
            with path.open("ab") as file:
                file.write(part)

    @rule(now=st.integers(0, 30), who=st.integers(0, 1))
    def look(self, now: int, who: int) -> None:
        expected = {account: until for account, until in self.rests.items() if until > now}
        assert self.both[who].resting(now) == expected

    @invariant()
    def both_know_the_sums(self) -> None:
        for each in self.both:
            for day, costs in self.costs.items():
                assert each.spent_on_day_of(NOON + day * DAY) == sum(costs.values()) / 8


def test_any_order_of_events_is_as_if_it_were_in_memory(tmp_path: Path) -> None:
    machine: Any = type("Here", (Shared,), {"folder": tmp_path})
    quick = settings(
        max_examples=40,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(machine, settings=quick)
