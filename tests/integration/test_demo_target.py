from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from blocks.commands import run
from blocks.errors import Refused, RepositoryUnusable
from deployments.demo.__main__ import (
    Demo,
    as_expected,
    describe,
    main,
    mission_text,
    prepare,
)
from deployments.demo.target import SOURCES, make_target
from flows.ledger.events import (
    CandidateEjected,
    Delivered,
    Event,
    MissionFinished,
    PlanMade,
    UnitEnded,
)
from flows.ledger.log import Record
from flows.ledger.state import fold
from flows.planning.plan import Unit, UnitId, unit_to_dict


def git(folder: Path, *arguments: str) -> str:
    return run(["git", "-C", str(folder), *arguments]).text


def tools_in(folder: Path) -> Path:
    folder.mkdir()
    for name in ("python3", "ruff"):
        (folder / name).touch()
    return folder


def test_the_target_is_the_same_commit_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_target(tmp_path / "one")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(
        "[commit]\n gpgsign = true\n[core]\n autocrlf = 1"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    make_target(tmp_path / "two")
    monkeypatch.delenv("GIT_DIR")
    one, two = (git(tmp_path / name, "rev-parse", "main") for name in ("one", "two"))
    assert one == two
    assert git(tmp_path / "one", "log", "-1", "--format=%an %cn") == "Parcel Post Parcel Post"


def test_the_target_is_clean_and_holds_every_source(tmp_path: Path) -> None:
    make_target(tmp_path / "target")
    assert git(tmp_path / "target", "status", "--porcelain") == ""
    files = set(git(tmp_path / "target", "ls-files").splitlines())
    assert {".gitignore", "pyproject.toml", "README.md"} <= files
    assert len([name for name in files if name.startswith("parcelpost/")]) >= 15
    assert not [name for name in files if "cache" in name]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(RepositoryUnusable, match="is not empty"):
        make_target(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_the_target_has_a_to_do_comment_and_a_string_that_looks_like_one() -> None:
    lines = [
        line.strip()
        for file in (SOURCES / "parcelpost").glob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "TODO" in line
    ]
    assert sorted(line[:1] for line in lines) == ["#", "N"]


def test_starting_over_makes_target_and_state_afresh(tmp_path: Path) -> None:
    demo = Demo(
        folder=tmp_path / "d", home=tmp_path / "d" / "home", tools=tools_in(tmp_path / "bin")
    )
    prepare(demo, keep=False)
    (demo.target / "mess").touch()
    (demo.home / "missions").mkdir()
    prepare(demo, keep=True)
    assert (demo.target / "mess").exists()
    prepare(demo, keep=False)
    assert not (demo.target / "mess").exists()
    assert not (demo.home / "missions").exists()


def test_a_state_folder_that_is_not_the_demos_is_never_cleared(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "missions").touch()
    demo = Demo(folder=tmp_path / "d", home=home, tools=tools_in(tmp_path / "bin"))
    with pytest.raises(Refused, match="holds something else"):
        prepare(demo, keep=False)
    assert (home / "missions").exists()


def test_without_tools_the_demo_says_what_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--tools", str(tmp_path)]) == 2
    assert "make demo" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_mission_file_is_toml_whatever_the_folders_are_called(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" \\c {d}'
    demo = Demo(folder=folder, home=folder / "home", tools=folder / "bin")
    read = tomllib.loads(mission_text(demo))
    assert read["repository"]["url"] == str(demo.target)
    assert read["environment"]["path"][0] == str(demo.tools)
    assert read["agents"]["default"]["argv"][-1] == "{files}"


RED = """\
verification is red
____ test_a ____
>   assert weigh(parcel) == 2
E   assert 3 == 2
Every line that only begins like an error
t.py:1: AssertionError
FAILED t.py::a"""


def records_of(*refused: str, finished: bool = True) -> list[Record]:
    """Make the ledger of a demo with three units, of which these were refused."""
    rules = {"E713": "lint-e713", "F401": "lint-f401", "I001": "lint-i001"}
    units = [Unit(id=UnitId(name), title=f"Fix ({rule})") for rule, name in rules.items()]
    events: list[Event] = [
        PlanMade(
            round=1, planner="tidy", units=[unit_to_dict(unit) for unit in units], notes=["a note"]
        )
    ]
    for name in rules.values():
        status = "failed" if name in refused else "landed"
        reason = RED if name in refused else ""
        if name in refused:
            events.append(
                CandidateEjected(unit=name, attempt=1, probe=2, reason=RED, failing=["t.py::a"])
            )
        events.append(UnitEnded(unit=name, status=status, reason=reason))
    events.append(Delivered(branch="mission/green-x", commit="c"))
    if finished:
        end = MissionFinished(
            stop_reason="max rounds", exit_code=1, green="c", counts={}, seconds=1.0
        )
        events.append(end)
    return [Record(number, 0.0, event) for number, event in enumerate(events, start=1)]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (records_of("lint-f401"), True),
        (records_of("lint-f401", finished=False), False),
        (records_of(), False),
        (records_of("lint-e713"), False),
        (records_of("lint-e713", "lint-f401"), False),
        (records_of("lint-e713", "lint-f401", "lint-i001"), False),
    ],
)
def test_the_demo_went_well_when_the_broken_fix_alone_was_refused(
    records: list[Record], *, expected: bool
) -> None:
    assert as_expected(fold(records)) is expected


def test_the_demo_says_what_landed_what_was_refused_and_where_to_look(tmp_path: Path) -> None:
    demo = Demo(folder=tmp_path, home=tmp_path / "home", tools=tmp_path)
    records = records_of("lint-f401")
    told = "\n".join(describe(demo, records, fold(records)))
    assert "Landed: 2 of 3 units\n  Fix (E713)\n  Fix (I001)\n" in told
    refused = "Refused: Fix (F401)\n  verification is red\n  E   assert 3 == 2\n"
    assert f"{refused}For a person or an agent:\n  a note\n" in told
    assert f"git -C {demo.target} diff main mission/green-x" in told
