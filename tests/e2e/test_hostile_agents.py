"""Agents that do harm, beside innocent ones in the same slots: a mission for each kind of harm.

Each harm has a named outcome and a cause that a person can act on; the innocent units land; nothing
is left behind (`conftest.py` looks after each test) and nothing elsewhere is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.server import ServerAddress
from tests import hostile
from tests.leaks import jobs_below
from tests.missions import (
    Ran,
    Record,
    Site,
    assert_promises,
    ended,
    events,
    git,
    integration_repository,
    ledger,
    make_repository,
    make_site,
    mission,
    on_green,
    outcomes,
    started,
    statuses,
    wait_for_event,
    wait_until,
    write_plan,
)

pytestmark = pytest.mark.needs_server

LOG_BYTES = 64 * 2**20
MEMORY_BYTES = 64 * 2**20
"""How much a flood may cost whoever reads it; a few megabytes of its end are read."""

ENDS_SOON_SECONDS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Harmed:
    """A mission with hostile agents, ended."""

    site: Site
    ran: Ran
    records: list[Record]

    def attempt(self, name: str) -> Record:
        """The only attempt at a unit."""
        (record,) = events(self.records, "attempt.ended", unit=name)
        return record

    def reason(self, name: str) -> str:
        """Why a unit did not land."""
        (record,) = events(self.records, "unit.ended", unit=name)
        reason: str = record["reason"]
        return reason

    def status(self, name: str) -> str:
        """How a unit ended."""
        return statuses(self.records)[name]

    def prompt(self, name: str, attempt: int) -> str:
        """What the agent of an attempt was told."""
        (path,) = self.site.home.glob(f"places/local/jobs/*/{name}/{attempt}/prompt.md")
        return path.read_text()


def harmed(site: Site, ran: Ran) -> Harmed:
    return Harmed(site=site, ran=ran, records=ledger(site))


def site_for(address: ServerAddress, folder: Path, **tables: Any) -> Site:
    """A site where each unit has one attempt, unless `tables` say otherwise."""
    limits = {"max_attempts": 1, "max_failures_in_a_row": 100, **tables.pop("limits", {})}
    return make_site(folder, api_url=address.api_url, limits=limits, **tables)


def assert_innocent_landed(mission_: Harmed) -> None:
    """Promises hold, and whoever did nothing wrong landed at the first attempt."""
    assert_promises(mission_.site, rerun=slice(-1, None))
    assert "Traceback" not in mission_.ran.text
    (plan,) = events(mission_.records, "plan.made")
    names = [u["id"] for u in plan["units"] if u["id"].startswith("innocent")]
    assert {n: (outcomes(mission_.records, n), mission_.status(n)) for n in names} == dict.fromkeys(
        names, (["collected"], "landed")
    )
    assert jobs_below(mission_.site.folder) == {}
    assert at_work_below(mission_.site.folder) == []


def at_work_below(folder: Path) -> list[int]:
    """The processes that work below a folder, whatever their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = (process / "cwd").readlink()
        except OSError:
            continue  # gone, or somebody else's
        if where.is_relative_to(folder):
            found.append(int(process.name))
    return found


def seconds_held(records: Sequence[Record], name: str) -> float:
    """How long an attempt held its slot."""
    (began,) = events(records, "attempt.started", unit=name)
    (over,) = events(records, "attempt.ended", unit=name)
    seconds: float = over["at"] - began["at"]
    return seconds


def peak_memory_bytes(pid: int) -> int:
    """The most that a running process ever held in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(line) * 1024


# -- processes and their output ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Peak memory (bytes) of the mission before and after a flood, and of its supervisor."""

    before: int
    after: int
    supervisor: int


@pytest.fixture(scope="module")
def loud(
    prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Harmed, Weights]:
    site = site_for(prefect_address, tmp_path_factory.mktemp("loud"))
    weighed = site.notes / "weighed"
    write_plan(site, *hostile.of_processes(weighed))
    with started(site) as driver:
        wait_for_event(site, "attempt.started", unit="floods")
        before = peak_memory_bytes(driver.pid)
        wait_until((site.notes / "flooded").exists)
        (watcher,) = site.home.glob("places/local/jobs/*/floods/1/pid")
        supervisor = peak_memory_bytes(int(watcher.read_text().split()[0]))
        weighed.touch()
        wait_for_event(site, "attempt.ended", unit="floods")
        after = peak_memory_bytes(driver.pid)  # alive: there is one who waits for the flood
        ran = ended(driver)
    return harmed(site, ran), Weights(before=before, after=after, supervisor=supervisor)


def test_the_innocent_land_beside_agents_that_hang_and_flood(loud: tuple[Harmed, Weights]) -> None:
    assert_innocent_landed(loud[0])
    assert loud[0].ran.code == 1


@pytest.mark.parametrize("name", ["hangs", "ignores-term", "closes-its-output"])
def test_an_agent_that_hangs_is_timed_out(loud: tuple[Harmed, Weights], name: str) -> None:
    attempt = loud[0].attempt(name)
    assert attempt["outcome"] == "timed out"
    assert re.search(r"the agent timed out after [2-4] s", loud[0].reason(name))
    assert seconds_held(loud[0].records, name) < 2.0 + ENDS_SOON_SECONDS


def test_a_gigabyte_of_output_costs_neither_memory_nor_disk_and_its_unit_lands(
    loud: tuple[Harmed, Weights],
) -> None:
    told, weights = loud
    assert told.attempt("floods")["output_bytes"] == hostile.FLOOD_BYTES
    assert told.status("floods") == "landed"
    assert weights.after - weights.before < MEMORY_BYTES
    assert weights.supervisor < MEMORY_BYTES
    (log,) = told.site.home.glob("places/local/jobs/*/floods/1/output.log")
    assert log.stat().st_size <= LOG_BYTES + 100
    assert seconds_held(told.records, "floods") < 30.0


@pytest.mark.parametrize(
    ("name", "file"),
    [("one-endless-line", "line.txt"), ("binary-noise", "noise.txt"), ("tells-tales", "tales.txt")],
)
def test_noise_keeps_no_work_from_landing(
    loud: tuple[Harmed, Weights], name: str, file: str
) -> None:
    assert loud[0].status(name) == "landed"
    assert on_green(loud[0].site, file) == "done"


def test_the_last_result_line_counts_and_no_escape_reaches_the_terminal(
    loud: tuple[Harmed, Weights],
) -> None:
    report = loud[0].attempt("tells-tales")["report"]
    assert (report["status"], report["summary"]) == ("completed", "the real one")
    assert "\x1b" not in loud[0].ran.text


@pytest.mark.parametrize(
    ("name", "file", "child"),
    [
        ("leaves-a-child", "in-time.txt", "child"),
        ("leaves-a-stranger", "in-time-too.txt", "stranger"),
    ],
)
def test_a_child_that_outlives_its_agent_neither_holds_it_up_nor_lives_on(
    loud: tuple[Harmed, Weights], name: str, file: str, child: str
) -> None:
    told = loud[0]
    assert (told.site.notes / f"{child}-began").exists()
    assert told.attempt(name)["agent_seconds"] < 2.0
    assert seconds_held(told.records, name) < ENDS_SOON_SECONDS
    assert told.attempt(name)["files"] == [file]
    assert told.status(name) == "landed"
    assert on_green(told.site, "late.txt") is None
    assert not (told.site.notes / "child-lived").exists()
    assert at_work_below(told.site.folder) == []


def test_an_agent_that_asks_gets_no_answer_and_fails_at_once(
    loud: tuple[Harmed, Weights],
) -> None:
    attempt = loud[0].attempt("asks")
    assert (attempt["outcome"], attempt["exit_code"]) == ("failed", 7)
    assert "nobody answers" in loud[0].reason("asks")
    assert attempt["agent_seconds"] < 2.0


def test_a_file_of_any_size_outside_the_write_set_is_refused_by_name(
    loud: tuple[Harmed, Weights],
) -> None:
    assert loud[0].attempt("fills-the-disk")["outcome"] == "refused"
    assert "outside its write set (disk.txt): sparse.bin" in loud[0].reason("fills-the-disk")


# -- git and files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twisted(
    prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harmed]:
    folder = tmp_path_factory.mktemp("twisted")
    victim = make_repository(folder / "victim", {"secret.txt": "secret\n"})
    alternates = victim / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text("/elsewhere\n")
    site = site_for(prefect_address, folder / "site")
    write_plan(site, *hostile.of_repositories(victim))
    try:
        yield harmed(site, mission(site))
    finally:  # nobody else takes folders away that are so deep
        subprocess.run(["rm", "-rf", str(site.home)], check=True)


def test_the_innocent_land_beside_agents_that_twist_git(twisted: Harmed) -> None:
    assert_innocent_landed(twisted)
    assert twisted.ran.code == 1


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("orphan-commit", "orphan.txt"),
        ("amends-the-base", "amended.txt"),
        ("detached-head", "loose.txt"),
        ("no-git", "no-git.txt"),
        ("git-is-a-file", "git-file.txt"),
        ("git-is-a-link", "git-link.txt"),
        ("pipes-among-packs", "pipes.txt"),
        ("traps-itself", "trapped.txt"),
        ("gitlink", "gitlink.txt"),
        ("deep-and-pipes", "deep.txt"),
    ],
)
def test_what_was_worked_lands_whatever_became_of_history(
    twisted: Harmed, name: str, file: str
) -> None:
    assert twisted.attempt(name)["outcome"] == "collected"
    assert twisted.status(name) == "landed"
    assert on_green(twisted.site, file) == "done" or file == "trapped.txt"
    assert seconds_held(twisted.records, name) < ENDS_SOON_SECONDS


@pytest.mark.parametrize(
    ("name", "outcome", "said"),
    [
        ("traps-inside", "refused", "repositories inside the repository are not taken: sub"),
        ("link-out", "refused", "links that lead out of the repository are not taken: out ->"),
        ("odd-name-outside", "refused", "outside its write set (fine.txt): a"),
        ("workspace-taken-away", "no change", "nothing was changed"),
    ],
)
def test_what_git_cannot_take_is_refused_by_name(
    twisted: Harmed, name: str, outcome: str, said: str
) -> None:
    assert twisted.attempt(name)["outcome"] == outcome
    assert said in twisted.reason(name)


def test_no_program_that_an_agent_planted_runs_where_git_runs(twisted: Harmed) -> None:
    assert not (twisted.site.notes / "canary").exists()


def test_nothing_elsewhere_is_read_or_changed(twisted: Harmed) -> None:
    victim = twisted.site.folder.parent / "victim"
    assert git(victim, "status", "--porcelain") == ""
    assert (victim / ".git" / "objects" / "info" / "alternates").read_text() == "/elsewhere\n"
    assert sorted(path.name for path in victim.iterdir()) == [".git", "secret.txt"]
    assert on_green(twisted.site, "secret.txt") is None
    assert on_green(twisted.site, "vendored") is None


def test_a_name_with_control_characters_lands_and_does_nothing_to_the_terminal(
    twisted: Harmed,
) -> None:
    assert twisted.status("odd-name") == "landed"
    assert twisted.attempt("odd-name")["files"] == ['a\x1b]0;owned\x07\n"b\\xff']
    assert "\x1b" not in twisted.ran.text
    assert "\x07" not in twisted.ran.text


def test_green_holds_plain_files_alone(twisted: Harmed) -> None:
    repository = integration_repository(twisted.site)
    modes = git(repository, "ls-tree", "-r", "--format=%(objectmode)", "refs/heads/mission/green")
    assert {*modes.split()} <= {"100644", "100755"}


def test_the_traps_would_have_sprung(twisted: Harmed, tmp_path: Path) -> None:
    """Else the test of the canary proves nothing: git itself runs them."""
    for name, script in (("nested", hostile.NESTED), ("itself", hostile.ITSELF)):
        notes = tmp_path / f"notes-{name}"
        notes.mkdir()
        workspace = make_repository(tmp_path / name, {"a.txt": "a\n"})
        git(workspace, "config", "user.name", "me")
        git(workspace, "config", "user.email", "me@localhost.invalid")
        subprocess.run(
            ["sh", "-c", script], cwd=workspace, env={**os.environ, "NOTES": str(notes)}, check=True
        )
        assert not (notes / "canary").exists()
        subprocess.run(["git", "add", "-A"], cwd=workspace, check=False, capture_output=True)
        assert (notes / "canary").exists(), name


# -- claims --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lying(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Harmed:
    tests = "def test_one():\n    assert 1\n\n\ndef test_two():\n    assert 2\n"
    site = site_for(
        prefect_address,
        tmp_path_factory.mktemp("lying"),
        files={"test_a.py": tests, "test_b.py": tests, "conftest.py": "", "uv.lock": "one\n"},
        environment={"path": [str(Path(sys.executable).parent)]},
        verify={"command": "python3 -m pytest -q", "slots": 2},
        limits={"max_attempts": 2},
    )
    write_plan(site, *hostile.of_claims())
    return harmed(site, mission(site))


def test_the_innocent_land_beside_agents_that_lie(lying: Harmed) -> None:
    assert_innocent_landed(lying)
    assert lying.ran.code == 1


@pytest.mark.parametrize("name", ["lies", "does-nothing"])
def test_who_changes_nothing_has_not_landed_whatever_is_claimed(lying: Harmed, name: str) -> None:
    assert outcomes(lying.records, name) == ["no change", "no change"]
    assert lying.status(name) == "failed"
    assert lying.reason(name).startswith("no change: ")
    assert not [r for r in events(lying.records, "landed") if name in r["units"]]


@pytest.mark.parametrize(
    ("name", "said"), [("deletes-tests", "2 tests"), ("skips-tests", "skipped")]
)
def test_who_weakens_the_tests_is_rejected_with_the_tests_named(
    lying: Harmed, name: str, said: str
) -> None:
    assert lying.status(name) == "failed"
    (ejected,) = events(lying.records, "candidate.ejected", unit=name)
    assert said in ejected["reason"]
    assert "test_" in ejected["reason"]
    assert ejected["reason"] in lying.prompt(name, 2)
    assert len((on_green(lying.site, "test_a.py") or "").splitlines()) == 6
    assert "skip" not in (on_green(lying.site, "test_b.py") or "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("outside", "outside its write set (a*.txt): forbidden.txt"),
        ("conftest", "protected paths were changed: conftest.py"),
        ("mission-file", "protected paths were changed: mission.toml"),
        ("lock-file", "protected paths were changed: uv.lock"),
    ],
)
def test_who_writes_where_it_may_not_is_refused_with_the_path_named(
    lying: Harmed, name: str, said: str
) -> None:
    assert outcomes(lying.records, name) == ["refused", "refused"]
    assert said in lying.reason(name)
    assert said in lying.prompt(name, 2)


def test_what_an_agent_said_stands_in_later_prompts_as_a_quotation_only(lying: Harmed) -> None:
    for prompt in (lying.prompt("injects", 2), lying.prompt("innocent-2", 1)):
        assert hostile.INJECTION in prompt
        inside, outside = by_fences(prompt)
        assert hostile.INJECTION in inside
        assert hostile.INJECTION not in outside
        assert "MISSION_RESULT: {" not in inside
        assert outside.count("## Where you may write") == 1


def by_fences(markdown: str) -> tuple[str, str]:
    """The lines of a text that stand inside code fences, and the others."""
    inside, outside, fence = list[str](), list[str](), ""
    for line in markdown.splitlines():
        run = re.match(r" {0,3}(`{3,})", line)
        if not fence and run:
            fence = run[1]
        elif fence and line.strip() == fence:
            fence = ""
        else:
            (inside if fence else outside).append(line)
    assert not fence, "a fence is open at the end"
    return "\n".join(inside), "\n".join(outside)


# -- machinery -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(
    prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Harmed, Harmed]:
    """The mission, and the next one, whose agents have been mended."""
    site = site_for(
        prefect_address,
        tmp_path_factory.mktemp("faulty"),
        limits={"max_faults": 1},
    )
    mended = site.notes / "mended"
    ours = hostile.of_machinery(mended)
    one, two, three = (hostile.innocent(f"innocent-{number}") for number in (1, 2, 3))
    last = hostile.innocent("innocent-4", after=["innocent-1"])
    write_plan(site, *ours, one, two, last)
    first = harmed(site, mission(site))
    mended.touch()
    write_plan(site, *ours, three)
    return first, harmed(site, mission(site))


@pytest.mark.parametrize(
    ("name", "outcome", "said"),
    [
        ("kills-its-supervisor", "infrastructure", "the agent lost after"),
        ("pretends-a-limit", "rate limited", "429"),
    ],
)
def test_what_looks_like_a_fault_of_ours_costs_no_attempt_and_is_capped(
    faulty: tuple[Harmed, Harmed], name: str, outcome: str, said: str
) -> None:
    attempts = events(faulty[0].records, "attempt.ended", unit=name)
    assert 1 <= len(attempts) <= 2
    assert {r["outcome"] for r in attempts} == {outcome}
    assert said in attempts[-1]["detail"]
    (ended,) = events(faulty[0].records, "unit.ended", unit=name)
    assert ended["status"] == "failed"
    assert "faults, and others went well meanwhile" in ended["reason"]
    assert attempts[-1]["head"], "the work is kept"


def test_faults_of_one_unit_keep_no_other_from_landing(faulty: tuple[Harmed, Harmed]) -> None:
    first = faulty[0]
    assert first.ran.code == 1, first.ran.text
    assert_innocent_landed(first)
    assert jobs_below(first.site.folder) == {}


def test_the_next_mission_with_mended_agents_works_in_the_same_workspaces(
    faulty: tuple[Harmed, Harmed],
) -> None:
    again = faulty[1]
    assert again.ran.code == 0, again.ran.text
    assert_innocent_landed(again)
    for name, file in (("kills-its-supervisor", "killer.txt"), ("pretends-a-limit", "limit.txt")):
        assert again.status(name) == "landed"
        assert on_green(again.site, file) == "done"
