from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.errors import SettingsInvalid
from flows.ledger.events import (
    Delivered,
    FlakeSeen,
    MissionFinished,
    MissionStarted,
    PlanMade,
    RepairStarted,
    StopRequested,
)
from flows.ledger.state import MissionState, fold
from flows.missions import summaries
from flows.preflight import Check
from flows.reporting.status import (
    checks_text,
    closing_lines,
    history_json,
    history_text,
    status_json,
    status_text,
)
from tests.ledgers import START, Timed, busy_mission, records_of, sha, small_mission, write_ledger


def until(seconds: float) -> list[Timed]:
    return [(at, event) for at, event in small_mission() if at <= seconds]


def home_with(folder: Path, events: Sequence[Timed], mission: str = "m1") -> Path:
    write_ledger(folder / "missions", mission, events)
    return folder


def state(events: Sequence[Timed]) -> MissionState:
    return fold(records_of(events))


def lines_about(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(word)]


# -- status -----------------------------------------------------------------------------------


def test_a_finished_mission_tells_why_units_did_not_land(tmp_path: Path) -> None:
    text = status_text(home_with(tmp_path, small_mission()), "m1")
    assert "m1: finished (nothing left to do, exit code 1)" in text
    assert "3 landed, 1 no change, 1 failed, 1 blocked" in text
    not_landed = text.partition("not landed")[2]
    assert lines_about(not_landed, "e ") == ["e     failed   2         rejected: 1 failed"]
    assert lines_about(not_landed, "f ") == ["f     blocked  0         depends on e"]
    assert not lines_about(not_landed, "a ")


def test_what_runs_is_shown_with_its_place_and_slot(tmp_path: Path) -> None:
    home = home_with(tmp_path, until(64))
    running = status_text(home, "m1").partition("\nrunning\n")[2].splitlines()
    assert running[1].split()[:3] == ["b", "3", "local/1"]
    unit = next(unit for unit in status_json(home, "m1")["units"] if unit["id"] == "b")
    assert (unit["status"], unit["attempts"], unit["place"], unit["slot"]) == (
        "running",
        3,
        "local",
        1,
    )
    assert unit["since"] == "2023-11-14T22:14:24.000+00:00"  # 64 s after it began


def test_the_train_is_shown(tmp_path: Path) -> None:
    home = home_with(tmp_path, until(64))
    train = status_json(home, "m1")["train"]
    assert (train["stack"], train["queue"], train["set_aside"]) == ([], [], ["c"])
    assert [(p["probe"], p["kind"], p["units"]) for p in train["probes"]] == [(4, "confirm", ["c"])]
    text = status_text(home, "m1")
    assert "set aside  c" in text
    assert lines_about(text, "probe 4")[0].split()[2:5] == ["confirm", "with", "c,"]


def test_what_is_being_mended_is_shown(tmp_path: Path) -> None:
    (at, begun), *rest = until(64)
    assert isinstance(begun, MissionStarted)
    begun = replace(begun, settings={"fixup": {"agent": "fixer", "attempts": 3}})
    (waiting,) = (e for _, e in rest if isinstance(e, PlanMade))
    more = PlanMade(round=1, planner="file", units=[{"id": "s", "title": "S"}])
    repair = RepairStarted(
        unit="s", repair=1, head="h", base=sha("g"), reason="red", candidates=["s@1.1.1", "s@1.1.2"]
    )
    home = home_with(tmp_path, [(at, begun), *rest, (70, more), (71, repair)])
    assert lines_about(status_text(home, "m1"), "in repair") == ["in repair  s, by 2 agents"]
    value = status_json(home, "m1")
    assert value["train"]["in_repair"] == ["s"]
    assert [u["id"] for u in value["units"]] == [*(u["id"] for u in waiting.units), "s"]


def test_flaky_tests_are_shown_with_how_often_and_where(tmp_path: Path) -> None:
    home = home_with(tmp_path, small_mission())
    tree = sha("cc1^{}")
    assert status_json(home, "m1")["flaky_tests"] == [
        {"test": "t::one", "flakes": 1, "last_tree": tree, "probes": [[3, 4]]}
    ]
    flaky = status_text(home, "m1").partition("\nflaky\n")[2]
    shown = lines_about(flaky, "t::one")[0].split()
    assert shown == ["t::one", "1", tree[:12], "3", "red,", "4", "green"]
    assert "\nflaky\n" not in status_text(home_with(tmp_path, until(64), "m2"), "m2")


def test_a_test_that_flakes_again_is_counted_and_its_last_tree_is_shown(tmp_path: Path) -> None:
    events = busy_mission(n_units=40)
    flakes = [event for _, event in events if isinstance(event, FlakeSeen)]
    assert len(flakes) > 1
    (test,) = status_json(home_with(tmp_path, events, "busy"), "busy")["flaky_tests"]
    assert (test["flakes"], test["last_tree"]) == (len(flakes), flakes[-1].tree)
    assert test["probes"] == [[flake.red_probe, flake.green_probe] for flake in flakes]


def test_a_unit_that_is_tried_again_says_why(tmp_path: Path) -> None:
    text = status_text(home_with(tmp_path, until(42)), "m1")
    assert "b     waiting  1         failed: exit code 1: no module | acme" in text


def test_a_mission_whose_driver_is_gone_can_be_resumed(tmp_path: Path) -> None:
    home = home_with(tmp_path, until(64))
    assert status_json(home, "m1")["status"] == "not running"
    assert "m1: not running; `mission resume` goes on with it" in status_text(home, "m1")
    assert status_json(home, "m1")["elapsed_seconds"] == 64, "time stands still with nobody there"


def test_an_interrupted_mission_says_so(tmp_path: Path) -> None:
    assert status_json(home_with(tmp_path, until(100)), "m1")["status"] == "interrupted"


def test_delivered_work_is_told_apart_from_green(tmp_path: Path) -> None:
    text = status_text(home_with(tmp_path, until(92)), "m1")
    behind = f"{sha('ca1')[:12]} delivered to mission/green, the rest not yet"
    assert lines_about(text, "green")[0].endswith(f"{sha('cb3')[:12]}, {behind}")


def test_a_requested_stop_is_shown(tmp_path: Path) -> None:
    asked = (65.0, StopRequested(by="mission stop"))
    assert "stop" in status_text(home_with(tmp_path, [*until(64), asked]), "m1")


def test_json_status_is_json(tmp_path: Path) -> None:
    value = status_json(home_with(tmp_path, small_mission()), "m1")
    assert json.loads(json.dumps(value)) == value
    landed = {unit["id"]: unit["commit"] for unit in value["units"] if unit["commit"]}
    assert landed == {"a": sha("ca1"), "b": sha("cb3"), "c": sha("cc2")}
    assert value["counts"] == {"landed": 3, "no change": 1, "failed": 1, "blocked": 1}
    assert value["delivered_branch"] == "mission/green"


def test_an_unknown_mission_is_refused_with_a_near_name(tmp_path: Path) -> None:
    home = home_with(tmp_path, small_mission("tidy-acme-1"), "tidy-acme-1")
    with pytest.raises(SettingsInvalid, match="did you mean 'tidy-acme-1'"):
        status_text(home, "tidy-acme")


def test_a_mission_that_never_got_to_plan_has_a_status(tmp_path: Path) -> None:
    text = status_text(home_with(tmp_path, until(0)), "m1")
    assert "none yet: no tree has passed" in text
    assert "no units" in text


# -- history ----------------------------------------------------------------------------------


def test_history_lists_the_newest_first(tmp_path: Path) -> None:
    home_with(tmp_path, small_mission("old"), "old")
    later = [(at + 1_000, event) for at, event in small_mission("new") if at <= 64]
    home_with(tmp_path, later, "new")
    found = [*summaries(tmp_path)]
    rows = history_text(found).splitlines()
    assert [row.split()[0] for row in rows] == ["mission", "new", "old"]
    assert "unfinished" in rows[1]
    assert rows[2].endswith("nothing left to do  3 landed, 1 no change, 1 failed, 1 blocked")
    first, second = history_json(found)
    assert (first["finished"], second["finished"]["exit_code"]) == (None, 1)


def test_an_empty_history_says_how_to_begin() -> None:
    assert "mission run" in history_text([])


# -- the end of `mission run` -----------------------------------------------------------------


def test_the_end_tells_each_unit_in_a_line() -> None:
    lines = closing_lines("m1", state(small_mission()))
    assert lines[0].split() == ["✓", "a", "landed", sha("ca1")[:12]]
    assert lines[3].split()[:4] == ["=", "d", "no", "change"]
    assert lines[4].split(maxsplit=3) == ["✗", "e", "failed", "rejected: 1 failed"]
    assert (
        lines[6] == "nothing left to do: 3 landed, 1 no change, 1 failed, 1 blocked; 2m12s; $1.60"
    )


def test_the_end_says_where_the_work_is_and_how_to_look(tmp_path: Path) -> None:
    folder = tmp_path / "my target"
    folder.mkdir()
    ended = state(small_mission())
    assert ended.started is not None
    ended.started = replace(ended.started, repository=str(folder))
    assert closing_lines("m1", ended)[7:] == [
        f"branch mission/green of {folder} is {sha('cb3')[:12]}",
        f"  git -C '{folder}' log --oneline main..mission/green",
        f"  git -C '{folder}' diff main...mission/green",
    ]


def test_a_fallback_branch_is_the_one_that_is_named() -> None:
    fallback = Delivered(branch="mission-green-m1", commit=sha("cb3"))
    text = "\n".join(closing_lines("m1", state([*small_mission(), (233, fallback)])))
    assert "branch mission-green-m1 of /srv/acme" in text
    assert "(mission/green could not be had)" in text
    assert "..mission/green" not in text


def test_a_repository_elsewhere_is_fetched_from() -> None:
    lines = closing_lines("m1", state(small_mission()))  # /srv/acme is not on this machine
    assert lines[-3:] == [
        "  git fetch /srv/acme mission/green",
        f"  git log --oneline {sha('base')}..FETCH_HEAD",
        f"  git diff {sha('base')}...FETCH_HEAD",
    ]


def test_what_could_not_be_delivered_is_said() -> None:
    lines = closing_lines("m1", state(until(92)))
    assert any(line.startswith(f"green is {sha('cb3')[:12]}: what landed last") for line in lines)


def test_an_interrupted_mission_ends_with_the_way_on() -> None:
    lines = closing_lines("m1", state(until(100)))
    assert any("`mission resume m1` goes on" in line for line in lines)


def test_a_mission_without_units_ends_with_its_reason() -> None:
    ended = MissionFinished(
        stop_reason="red base", exit_code=2, green=None, counts={}, seconds=1.0, detail="1 failed"
    )
    assert closing_lines("m1", state([*until(0), (1, ended)])) == [
        "red base: no units; 1.0s",
        "  1 failed",
    ]


# -- doctor -----------------------------------------------------------------------------------


def test_checks_are_a_table_with_a_sign_each() -> None:
    checks = [
        Check(what="git", ok=True, detail="2.39"),
        Check(what="agent default", ok=False, detail="[x] is not there"),
    ]
    assert checks_text(checks).splitlines() == [
        "ok  git            2.39",
        "no  agent default  [x] is not there",
    ]


def test_times_are_those_of_the_ledger(tmp_path: Path) -> None:
    value = status_json(home_with(tmp_path, small_mission()), "m1")
    assert value["started_at"].startswith("2023-11-14T22:13:20")
    assert START == 1_700_000_000.0
