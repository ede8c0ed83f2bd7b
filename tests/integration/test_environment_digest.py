"""What a kept pass depends on: a change in any of it is another environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import CommandFailed
from blocks.places.local import LocalPlace
from blocks.places.ssh import SSHPlace
from blocks.repository import IntegrationRepository
from flows.landing.environment import (
    FRESH_SECONDS,
    NOT_JUDGED_BY,
    Environments,
    environment_digest,
    survey,
)
from flows.running.bench import Bench
from flows.settings import MissionSettings, Verify
from flows.settings_sources import load_settings
from tests.sshd import HOST, SKIP_REASON, find_sshd, running_sshd

FILE = """
name = "m"
[repository]
url = "."
[plan]
planner = "tidy"
[environment]
path = ["tools/bin"]
pass = ["LANG", "CHOSEN"]
[verify]
command = "lint . && python3 -m pytest -q"
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs, beside the packages that they use."""
    folder = tmp_path / "tools" / "bin"
    folder.mkdir(parents=True)
    (tmp_path / "tools" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    program(folder / "lint")
    return folder


def program(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> None:
    path.write_text(text)
    path.chmod(0o755)


def age(path: Path) -> None:
    """Make a file or folder's last change another one, and a plain one."""
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[IntegrationRepository]:
    opened = IntegrationRepository(tmp_path / "store.git")
    yield opened
    opened.close()


@pytest.fixture
def bench(tmp_path: Path, tools: Path, repository: IntegrationRepository) -> Bench:
    (tmp_path / "mission.toml").write_text(FILE)
    place = LocalPlace(tmp_path / "place")
    return Bench(
        mission="m1",
        folder=tmp_path / "m1",
        repository=repository,
        places={"local": place},
        settings=load_settings(tmp_path / "mission.toml", env={}),
        key="acme-mission-green",
    )


def digest(bench: Bench) -> str:
    return environment_digest(bench, bench.places["local"])


def with_settings(bench: Bench, section: str, **values: Any) -> Bench:
    changed = getattr(bench.settings, section).model_copy(update=values)
    settings: MissionSettings = bench.settings.model_copy(update={section: changed})
    return replace(bench, settings=settings)


def test_it_is_the_same_for_other_missions_of_other_green_branches(bench: Bench) -> None:
    other = replace(bench, mission="m2", key="acme-other", folder=bench.folder / "m2")
    assert digest(other) == digest(bench)
    assert len(digest(bench)) == 64


OTHERWISE: dict[str, Any] = {
    "command": "lint .",
    "unit": "true",
    "setup": "true",
    "setup_inputs": ("x.lock",),
    "timeout": 301.0,
    "allow_red_base": True,
    "slots": 7,
    "junit": ("report.xml",),
    "sarif": ("report.sarif",),
    "coverage": ("coverage.xml",),
    "keep": (".venv",),
}


@pytest.mark.parametrize("key", [*Verify.model_fields])
def test_whatever_a_tree_is_judged_by_makes_another_environment(bench: Bench, key: str) -> None:
    otherwise = OTHERWISE.get(key, "a key of another day counts")
    changed = with_settings(bench, "verify", **{key: otherwise})
    assert (digest(changed) == digest(bench)) == (key in NOT_JUDGED_BY)


@pytest.mark.parametrize(
    ("key", "value"), [("set", {"LEVEL": "2"}), ("path", ("/opt/nothing",)), ("path", ())]
)
def test_what_commands_get_makes_another_environment(bench: Bench, key: str, value: Any) -> None:
    assert digest(with_settings(bench, "environment", **{key: value})) != digest(bench)


def test_a_variable_that_is_passed_on_counts_with_its_value_and_others_do_not(
    bench: Bench,
) -> None:
    digests = {digest(bench)}
    for value in ("a", "b"):
        os.environ["CHOSEN"] = value
        digests.add(digest(bench))
    assert len(digests) == 3
    os.environ["OTHER"] = "x"
    assert digest(bench) in digests


def test_another_place_is_another_environment(bench: Bench, tmp_path: Path) -> None:
    class Elsewhere(LocalPlace):
        name = "elsewhere"

    assert environment_digest(bench, Elsewhere(tmp_path / "place")) != digest(bench)


def test_a_tool_that_changed_in_place_makes_another_environment(bench: Bench, tools: Path) -> None:
    before = digest(bench)
    age(tools / "lint")
    changed = digest(bench)
    assert changed != before
    with (tools / "lint").open("a") as file:
        file.write("# longer\n")
    age(tools / "lint")
    assert digest(bench) not in {before, changed}


def test_a_link_that_points_elsewhere_makes_another_environment(
    bench: Bench, tools: Path, tmp_path: Path
) -> None:
    digests = set()
    for version in ("1", "2"):
        real = tmp_path / version / "lint"
        real.parent.mkdir()
        program(real)
        age(real)
        age(real.parent)
        (tools / "lint").unlink()
        (tools / "lint").symlink_to(real)
        age(tools)
        digests.add(digest(bench))
    assert len(digests) == 2


def test_an_interpreter_that_a_tool_names_counts(bench: Bench, tools: Path, tmp_path: Path) -> None:
    interpreter = tmp_path / "other" / "python"
    interpreter.parent.mkdir()
    shutil.copy(shutil.which("true") or "/bin/true", interpreter)
    program(tools / "lint", f"#!{interpreter} -I\n")
    before = digest(bench)
    age(interpreter)
    assert digest(bench) != before


def test_what_is_installed_on_the_path_or_beside_it_counts_though_no_command_names_it(
    bench: Bench, tools: Path
) -> None:
    digests = {digest(bench)}
    program(tools / "called-by-make")
    digests.add(digest(bench))
    (tools.parent / "lib" / "python3.11" / "site-packages" / "acme-2.dist-info").mkdir()
    digests.add(digest(bench))
    assert len(digests) == 3


def test_the_first_on_the_path_is_what_counts(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "place")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        program(tmp_path / name / "tool")
    path = f"{tmp_path}/a:{tmp_path}/b"
    said = survey(place, path, ("FOO=1 tool x; ./tool",)).splitlines()
    assert f"word\ttool\t{tmp_path}/a/tool" in said
    assert not [line for line in said if f"{tmp_path}/b/tool" in line]


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m pytest -q",
        "cd sub && python3 -m pytest",
        "sh -c 'exec python3 -m pytest'",
        "X=$(python3 -V) make",
        "PYTHON=python3 make test",
        "echo 'unfinished; python3",
    ],
)
def test_the_words_of_a_command_are_found_wherever_they_stand(tmp_path: Path, command: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    said = survey(LocalPlace(tmp_path / "place"), f"{tmp_path}/bin", (command,))
    assert f"word\tpython3\t{tmp_path}/bin/python3" in said.splitlines()
    assert f"tool\t{os.path.realpath(sys.executable)}\t" in said


def test_a_place_is_asked_once_in_a_while(bench: Bench, tools: Path) -> None:
    now = 0.0
    environments = Environments(bench=bench, clock=lambda: now)
    first = environments.digest("local")
    age(tools / "lint")
    now = FRESH_SECONDS - 1
    assert environments.digest("local") == first
    now = FRESH_SECONDS
    assert environments.digest("local") not in {first, ""}


def test_a_place_that_cannot_be_asked_has_no_digest_until_it_can(
    bench: Bench, tmp_path: Path
) -> None:
    class Away(LocalPlace):
        is_away = True

        def run(self, *args: Any, **options: Any) -> Any:
            if self.is_away:
                raise CommandFailed(["ssh"], 255, b"", b"no route to host")
            return super().run(*args, **options)

    place = Away(tmp_path / "place")
    environments = Environments(bench=replace(bench, places={"local": place}))
    assert environments.digest("local") == ""
    place.is_away = False
    assert environments.digest("local") == digest(bench)


@pytest.mark.needs_sshd
@pytest.mark.skipif(find_sshd() is None, reason=SKIP_REASON)
def test_a_distant_place_tells_of_its_tools(bench: Bench, tools: Path, tmp_path: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with running_sshd(tmp_path / "sshd") as server:
        place = SSHPlace(HOST, str(tmp_path / "state"), config=server.config)
        try:
            assert f"word\tlint\t{tools}/lint" in survey(place, str(tools), ("lint '*' .",))
            first = environment_digest(bench, place)
            assert environment_digest(bench, place) == first != digest(bench)
            age(tools / "lint")
            assert environment_digest(bench, place) != first
        finally:
            place.close()
