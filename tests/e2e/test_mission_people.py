"""What people do with a mission besides running it: look first, look at the first unit, leave."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from flows.missions import is_driven
from tests.missions import (
    MISSION,
    Site,
    assert_promises,
    ended,
    events,
    ledger,
    make_site,
    mission,
    missions_of,
    started,
    statuses,
    unit,
    wait_for_event,
    wait_until,
    write,
    write_mission,
    write_plan,
)
from tests.oracle import ask_oracle, parts, units

pytestmark = pytest.mark.needs_server


@pytest.fixture
def site(tmp_path: Path, prefect_address: ServerAddress) -> Site:
    """Three units, one of which needs another."""
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(
        site,
        unit("a", write("a.txt", "made by a"), writes=["a.txt"]),
        unit("b", write("b.txt"), writes=["b.txt"]),
        unit("c", write("c.txt"), writes=["c.txt"], depends_on=["a"]),
    )
    return site


def test_a_canary_runs_alone_is_shown_and_the_rest_follows_when_it_is_approved(site: Site) -> None:
    ran = mission(site, "run", str(site.mission_file), "--canary", "1")
    assert ran.code == 4, ran.text
    assert "mission review" in ran.err
    (name,) = missions_of(site)
    assert [e["unit"] for e in events(ledger(site), "attempt.started")] == ["a"]
    again = mission(site, "resume", name)
    assert again.code == 4, "nobody answered"
    shown = mission(site, "review")
    assert shown.code == 4
    assert "+made by a" in shown.out
    assert mission(site, "review", "--approve", "--note", "fine").code == 0
    ran = mission(site, "resume", name)
    assert ran.code == 0, ran.text
    assert statuses(ledger(site)) == dict.fromkeys("abc", "landed")
    (answer,) = events(ledger(site), "review.answered")
    assert (answer["answer"], answer["note"]) == ("approved", "fine")
    assert_promises(site)


@pytest.mark.parametrize(
    ("typed", "ends_with"),
    [(b"\x04", 4), (b"\n", 4), (b"yes\n", 0), (b"no\n", 1)],
    ids=["ctrl-d", "enter", "yes", "no"],
)
def test_who_sits_at_the_terminal_answers_there_or_later(
    site: Site, typed: bytes, ends_with: int
) -> None:
    leader, terminal = os.openpty()
    process = subprocess.Popen(
        [*MISSION, "run", str(site.mission_file), "--canary", "1"],
        cwd=site.folder,
        env={**os.environ, "MISSION_HOME": str(site.home), **site.environment},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    with process, os.fdopen(leader, "r+b", buffering=0) as screen:
        shown = b""
        while b"Enter: later]" not in shown:
            shown += screen.read(4_096)
        screen.write(typed)
        with suppress(OSError):  # nobody has the other end any more
            while more := screen.read(65_536):
                shown += more
        code = process.wait(timeout=30.0)
    assert (code, b"Traceback" in shown) == (ends_with, False), shown.decode()
    assert mission(site, "review").code == (4 if ends_with == 4 else 2)


def test_a_rejected_canary_ends_the_mission_and_what_landed_stays(site: Site) -> None:
    assert mission(site, "run", str(site.mission_file), "--canary", "1").code == 4
    rejected = mission(site, "review", "--reject")
    assert rejected.code == 0
    assert "mission revert UNIT" in rejected.out
    assert mission(site, "review", "--reject", "--approve").code == 2
    ran = mission(site, "resume")
    assert ran.code == 1, ran.text
    (end,) = events(ledger(site), "mission.finished")
    assert end["stop_reason"] == "rejected"
    assert [e["unit"] for e in events(ledger(site), "attempt.started")] == ["a"]
    assert mission(site, "review").code == 2, "nothing is asked any more"


def test_a_detached_mission_goes_on_by_itself_and_is_found(site: Site) -> None:
    ran = mission(site, "run", str(site.mission_file), "--detach")
    assert ran.code == 0, ran.text
    (name,) = missions_of(site)
    assert name in ran.out
    wait_for_event(site, "mission.finished", exit_code=0)
    wait_until(lambda: not is_driven(site.home, name))
    assert "objective met" in mission(site, "status", name).out
    output = site.home / "missions" / name / "output.log"
    wait_until(lambda: "branch mission/green" in output.read_text())


def test_a_detached_resume_takes_what_the_mission_file_says_now(site: Site) -> None:
    assert mission(site, "run", str(site.mission_file), "--canary", "1").code == 4
    assert mission(site, "review", "--approve").code == 0
    write_mission(site, limits={"max_faults": 7}, review={"canary": 1})
    ran = mission(site, "run", str(site.mission_file), "--detach")
    assert ran.code == 0, ran.text
    wait_for_event(site, "mission.finished", exit_code=0)
    assert events(ledger(site), "mission.resumed")[-1]["changed"] == ["limits.max_faults"]


def test_a_mission_that_is_driven_is_not_detached_a_second_time(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"until [ -e {gate} ]; do echo . >> more.txt; sleep 0.1; done"
    write_plan(site, *(unit(name, f"{wait}; {write(f'{name}.txt')}") for name in "abcd"))
    with started(site) as process:
        wait_for_event(site, "attempt.started")
        ran = mission(site, "run", str(site.mission_file), "--detach")
        gate.touch()
        assert ended(process).code == 0
    assert ran.code == 2, ran.text
    assert "runs already" in ran.err


def test_a_detached_mission_with_a_mistake_says_so_at_once(site: Site) -> None:
    write_plan(site, unit("a", "true", depends_on=["nobody"]))
    ran = mission(site, "run", str(site.mission_file), "--detach")
    assert ran.code == 2
    assert "nobody" in ran.err
    assert missions_of(site) == []


def test_a_plan_can_be_asked_for_written_to_a_file_and_run_from_there(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    answers = {
        "plan-1-0": [parts("one", "two")],
        "plan-1-0.1": ["nothing to read", units("o1", "o2")],
        "plan-1-0.2": [units("t1", depends_on=[])],
    }
    agents = {"default": {"argv": ask_oracle(site, answers)}}
    write_mission(site, objective="All.", plan={"planner": "agent"}, agents=agents)
    file = str(site.mission_file)
    unasked = mission(site, "plan", file)
    assert unasked.code == 0, unasked.text
    assert "--ask" in unasked.out
    assert not [*site.notes.glob("*.md")]
    document = tmp_path / "made.toml"
    for wrong in ("made.yaml", "no-folder/made.toml"):
        refused = mission(site, "plan", file, "--ask", "--write", str(tmp_path / wrong))
        assert refused.code == 2, refused.text
    assert not [*site.notes.glob("*.md")], "nobody is asked for what cannot be kept"
    asked = mission(site, "plan", file, "--ask", "--write", str(document))
    assert asked.code == 0, asked.text
    assert "an answer about 'Part one' was unusable, it was asked again" in asked.out
    n_asked = len([*site.notes.glob("*.md")])
    assert mission(site, "plan", file, "--ask", "--write", str(document)).code == 2, "it is there"
    assert len([*site.notes.glob("*.md")]) == n_asked
    write_mission(site, plan={"file": str(document)}, agents=agents)
    ran = mission(site)
    assert ran.code == 0, ran.text
    assert statuses(ledger(site)) == dict.fromkeys(("o1", "o2", "t1"), "landed")


def test_a_detached_mission_that_cannot_begin_says_why(site: Site) -> None:
    write_mission(site, repository={"base": "nowhere"})
    ran = mission(site, "run", str(site.mission_file), "--detach")
    assert ran.code == 2, ran.text
    assert "no branch 'nowhere'" in ran.err


def test_a_mission_does_not_end_with_whoever_read_its_output(site: Site) -> None:
    with started(site) as process:
        assert process.stdout is not None
        process.stdout.close()
        wait_for_event(site, "mission.finished", exit_code=0)
        process.wait(timeout=60.0)
    assert statuses(ledger(site)) == dict.fromkeys("abc", "landed")
