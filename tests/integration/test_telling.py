"""What an attempt's agent is told of a real repository, and what `mission memory` shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.places.local import LocalPlace
from blocks.repository import IntegrationRepository
from flows.cli import main
from flows.ledger.events import AttemptEnded, Outcome
from flows.opening import repository_path
from flows.planning.plan import Unit, UnitId
from flows.prompts.prompts import LandedDependency
from flows.running.attempt import AttemptOrder, run_attempt
from flows.running.bench import Bench
from flows.running.memory import Entry, Memory
from flows.running.telling import prompt_for, remember
from flows.settings import MissionSettings
from flows.settings_sources import load_settings
from tests.missions import Site, commit_files, git, make_site

FILES = {"AGENTS.md": "Use tabs.\n", "GEMINI.md": "@AGENTS.md\n", "CLAUDE.md": "Be quick.\n"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(
        tmp_path,
        files=FILES,
        agents={"default": {"argv": ["sh", "-c", "cat > told.txt"], "max_usd": 1.5}},
        verify={"unit": "true"},
    )


@pytest.fixture
def settings(site: Site) -> MissionSettings:
    return load_settings(site.mission_file)


@pytest.fixture
def bench(site: Site, settings: MissionSettings) -> Iterator[Bench]:
    repository = IntegrationRepository(repository_path(site.home, settings.repository.url))
    repository.fetch(str(site.target), ["main"])
    place = LocalPlace(site.folder / "place")
    yield Bench(
        mission="m1",
        folder=site.folder,
        repository=repository,
        places={place.name: place},
        settings=settings,
        key="k",
    )
    place.close()
    repository.close()


def order(site: Site, **values: object) -> AttemptOrder:
    unit = Unit(id=UnitId("u"), title="Do u", prompt="Well.", verify="sh quick.sh")
    base = git(site.target, "rev-parse", "main")
    usual = {"unit": unit, "attempt": 1, "base": base, "place": "local", "slot": 0}
    return AttemptOrder(**{**usual, **values})  # type: ignore[arg-type]  # of any field


def test_a_worker_is_told_what_mission_repository_and_earlier_units_say(
    site: Site, bench: Bench
) -> None:
    Memory.beside(bench.repository.path).add([Entry(kind="gotcha", text="TZ matters", unit="v")])
    landed = LandedDependency(unit="d", title="Do d", commit="c" * 40, files=("d.py",))
    prompt = prompt_for(order(site, dependencies=(landed,)), bench)
    for told in (
        "# Do u\n\nWell.\n",
        "sh quick.sh",
        "sh check.sh",
        "30s and 1.50 USD",
        "Use tabs.",
        "Be quick.",
        "gotcha (v): TZ matters",
        f"commit {'c' * 12}: d.py",
    ):
        assert told in prompt
    assert "did not land" not in prompt
    assert "GEMINI.md" not in prompt


def test_instructions_are_those_of_the_commit_that_is_worked_on(site: Site, bench: Bench) -> None:
    old = order(site)
    commit_files(site.target, {"AGENTS.md": "Use spaces.\n"}, "Change our minds")
    bench.repository.fetch(str(site.target), ["main"])
    assert "Use tabs." in prompt_for(old, bench)
    assert "Use spaces." in prompt_for(order(site), bench)


def test_a_fixer_is_told_what_was_red(site: Site, bench: Bench) -> None:
    prompt = prompt_for(order(site, cause="rejected: x is broken", is_repair=True), bench)
    assert prompt.startswith("# Repair: Do u\n")
    assert "rejected: x is broken" in prompt


def test_an_agent_gets_the_prompt_as_it_was_written(site: Site, bench: Bench) -> None:
    asked = order(site, unit=Unit(id=UnitId("u"), title="Do ü"))
    bench.places["local"].write(bench.lease(bench.places["local"]), b"1")
    ended = run_attempt(asked, bench)
    assert ended.outcome == Outcome.COLLECTED, ended.detail
    told = bench.repository.show(ended.head or "", "told.txt")
    assert told == prompt_for(asked, bench).encode()


def test_what_an_agent_reports_is_told_to_the_next(site: Site, bench: Bench) -> None:
    report = {"learnings": ["Port 8000 is taken"], "concerns": ["slow"]}
    ended = AttemptEnded(unit="u", attempt=1, outcome=Outcome.FAILED.value, report=report)
    remember(ended, bench)
    remember(ended, bench)
    prompt = prompt_for(order(site), bench)
    assert prompt.count("learning (u): Port 8000 is taken") == 1
    assert "slow" not in prompt


def run_memory(site: Site, *args: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["memory", str(site.mission_file), *args])
    return ended.value.code


@pytest.fixture
def remembered(site: Site, settings: MissionSettings, monkeypatch: pytest.MonkeyPatch) -> Memory:
    monkeypatch.setenv("MISSION_HOME", str(site.home))
    memory = Memory.beside(repository_path(site.home, settings.repository.url))
    memory.add([Entry(kind="gotcha", text="Tests need TZ", unit="u", mission="m", at=0.0)])
    return memory


def test_a_person_sees_what_is_remembered(
    site: Site, remembered: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = remembered.entries()
    assert run_memory(site) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *(entry.id, "gotcha", "u", "Tests", "need", "TZ")
    ]
    assert run_memory(site, "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["text"], shown["at"][:10]) == (entry.id, entry.text, "1970-01-01")


def test_a_person_changes_and_removes_an_entry(
    site: Site, remembered: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_memory(site, "--edit", remembered.entries()[0].id, "Tests need TZ=UTC") == 0
    (entry,) = remembered.entries()
    assert entry.text == "Tests need TZ=UTC"
    assert run_memory(site, "--forget", entry.id) == 0
    assert remembered.entries() == []
    assert "nothing is remembered" in capsys.readouterr().out


def test_an_id_that_is_not_there_is_wrong_input(
    site: Site, remembered: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_memory(site, "--forget", "nothing") == 2
    assert "nothing" in capsys.readouterr().err
    assert len(remembered.entries()) == 1
