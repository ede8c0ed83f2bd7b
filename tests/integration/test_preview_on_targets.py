from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from blocks.errors import RepositoryUnusable
from deployments.demo.target import make_target
from flows.planning.preview import Preview, preview
from flows.settings_sources import load_settings
from tests.missions import commit_files, git, make_repository

TIDY = f"""\
name = "m"
repository.url = "target"
environment.path = ["{Path(sys.executable).parent}"]
environment.set = {{ PYTEST_DISABLE_PLUGIN_AUTOLOAD = "1", PYTHONDONTWRITEBYTECODE = "1" }}
verify.command = "python3 -m pytest -q -p no:cacheprovider"
plan.planner = "tidy"
agents.default = {{}}
"""


def shown(folder: Path, text: str) -> Preview:
    (folder / "mission.toml").write_text(text)
    return preview(load_settings(folder / "mission.toml", env={}))


def look(repository: Path) -> tuple[str, str, list[str]]:
    files = sorted(str(path) for path in repository.rglob("*"))
    return git(repository, "status", "--porcelain"), git(repository, "for-each-ref"), files


def test_tidying_is_planned_without_touching_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    make_target(tmp_path / "target")
    before = look(tmp_path / "target")
    seen = shown(tmp_path, TIDY)
    assert "lint-f401" in {unit.id for unit in seen.units}
    assert seen.argv[seen.units[0].id][:3] == ("ruff", "check", "--fix")
    assert any(note.startswith("needs an agent: 1 type error") for note in seen.notes)
    assert look(tmp_path / "target") == before
    assert list((tmp_path / "tmp").iterdir()) == [], "nothing stays"


def test_a_tidy_target_needs_no_units(tmp_path: Path) -> None:
    make_repository(tmp_path / "target", {"a.py": "A = 1\n"})
    seen = shown(tmp_path, TIDY)
    assert seen.units == ()
    assert "no units: nothing to tidy" in seen.as_text()
    assert seen.as_json()["critical_path"] == []


def test_only_what_is_committed_is_planned_for(tmp_path: Path) -> None:
    target = make_repository(tmp_path / "target", {"a.py": "A = 1\n"})
    (target / "a.py").write_text("import os\n")
    seen = shown(tmp_path, TIDY)
    assert seen.units == ()
    assert any("uncommitted changes" in warning for warning in seen.warnings)


def test_the_plan_is_for_what_landed_already(tmp_path: Path) -> None:
    target = make_repository(tmp_path / "target", {"a.py": "import os\n"})
    git(target, "switch", "--quiet", "--create", "mission/green")
    commit_files(target, {"a.py": "A = 1\n"}, "Tidied")
    git(target, "switch", "--quiet", "main")
    assert shown(tmp_path, TIDY).units == ()


def test_globs_are_expanded_by_the_targets_files(tmp_path: Path) -> None:
    files = {"src/a.txt": "", "src/b.txt": "", "src/c.md": "", "d.txt": ""}
    make_repository(tmp_path / "target", files)
    (tmp_path / "plan.toml").write_text('[[unit]]\nid = "a"\nwrites = ["src/*.txt"]\n')
    mission = """\
    name = "m"
    repository.url = "target"
    verify.command = "true"
    plan.file = "plan.toml"
    agents.default.argv = ["fix", "{files}"]
    """
    assert shown(tmp_path, mission).argv == {"a": ("fix", "src/a.txt", "src/b.txt")}


def test_a_target_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(RepositoryUnusable, match="no git repository"):
        shown(tmp_path, TIDY)
