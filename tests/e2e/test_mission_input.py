"""Input that is wrong: exit code 2, one clear line with the mend, and the target as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    GREEN,
    Ran,
    Site,
    assert_promises,
    commit_files,
    events,
    git,
    ledger,
    make_site,
    mission,
    missions_of,
    on_green,
    unit,
    without_server,
    write,
    write_mission,
    write_plan,
)

Snapshot = dict[str, tuple[int, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """Every file of a folder with its mode and content, `.git` included."""
    found: Snapshot = {}
    for path in sorted(folder.rglob("*")):
        content = os.fsencode(path.readlink()) if path.is_symlink() else b""
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


def assert_refused(site: Site, ran: Ran, *said: str) -> None:
    """Exit code 2, no traceback, no mission; all that is `said` is on one line."""
    assert ran.code == 2, ran.text
    assert "Traceback" not in ran.text
    lines = ran.err.splitlines()
    assert any(all(s in line for s in said) for line in lines), f"{said} not in {ran.err}"
    (summary,) = [line for line in lines if line.startswith("mission: ")]
    assert summary
    assert missions_of(site) == []


# -- refused before a server is needed -------------------------------------------------------------


def _no_mission_file(site: Site) -> None:
    site.mission_file.unlink()


def _syntax_error(site: Site) -> None:
    text = site.mission_file.read_text()
    site.mission_file.write_text(text + "\n[limits\nmax_rounds = 1\n")


def _unknown_key(site: Site) -> None:
    write_mission(site, verify={"comand": "sh check.sh"})


def _unknown_environment_key(site: Site) -> None:
    write_mission(site, limits={"max_attemps": 2})


def _no_plan_file(site: Site) -> None:
    (site.folder / "plan.toml").unlink()


def _cycle(site: Site) -> None:
    write_plan(site, unit("a", "true", depends_on=["b"]), unit("b", "true", depends_on=["a"]))


def _unknown_dependency(site: Site) -> None:
    write_plan(site, unit("settings", "true"), unit("b", "true", depends_on=["setings"]))


def _duplicate(site: Site) -> None:
    write_plan(site, unit("a", "true"), unit("a", "true"))


def _unknown_agent(site: Site) -> None:
    write_plan(site, {"id": "a", "title": "A", "agent": "cluade"})


def _agent_not_found(site: Site) -> None:
    write_mission(site, agents={"default": {"argv": ["no-such-agent", "{prompt_file}"]}})
    write_plan(site, {"id": "a", "title": "A"})


def _url_is_no_repository(site: Site) -> None:
    shutil.rmtree(site.target / ".git")


def _url_is_nothing(site: Site) -> None:
    write_mission(site, repository={"url": "tarbet"})


def _empty_repository(site: Site) -> None:
    shutil.rmtree(site.target)
    git(site.folder, "init", "--quiet", "--initial-branch=main", str(site.target))


def _shallow_clone(site: Site) -> None:
    commit_files(site.target, {"more.txt": "more\n"}, "More")
    whole = site.folder / "whole"
    site.target.rename(whole)
    git(site.folder, "clone", "--quiet", "--depth=1", whole.as_uri(), str(site.target))


def _unknown_base(site: Site) -> None:
    write_mission(site, repository={"base": "mian"})


def _base_is_green(site: Site) -> None:
    write_mission(site, repository={"base": "main", "green": "main"})


EARLY: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "no mission file": (_no_mission_file, ("mission.toml",)),
    "TOML syntax error": (_syntax_error, ("mission.toml:",)),
    "unknown key": (_unknown_key, ("mission.toml", "verify.comand", "did you mean", "command")),
    "unknown limit": (_unknown_environment_key, ("limits.max_attemps", "max_attempts")),
    "no plan file": (_no_plan_file, ("plan.toml", "No such file")),
    "cycle": (_cycle, ("plan.toml", "'a'", "depends_on", "a → b → a")),
    "unknown dependency": (_unknown_dependency, ("plan.toml", "'b'", "setings", "settings")),
    "duplicate": (_duplicate, ("plan.toml", "'a'", "id", "rename")),
    "unknown agent": (_unknown_agent, ("plan.toml", "'a'", "cluade", "[agents.cluade]")),
    "agent not found": (_agent_not_found, ("agents.default.argv", "no-such-agent", "PATH")),
    "no repository": (_url_is_no_repository, ("target", "no git repository", "url")),
    "nothing at the url": (_url_is_nothing, ("tarbet", "url")),
    "empty repository": (_empty_repository, ("target", "no commit yet", "make one")),
    "shallow clone": (_shallow_clone, ("target", "shallow", "git fetch --unshallow")),
    "unknown base": (_unknown_base, ("'mian'", "main", "base")),
    "green is base": (_base_is_green, ("repository.green", "'main'", "name another")),
}


@pytest.mark.parametrize("case", EARLY)
def test_wrong_input_is_refused_on_one_line_and_nothing_is_touched(
    tmp_path: Path, case: str
) -> None:
    spoil, said = EARLY[case]
    site = without_server(make_site(tmp_path))
    write_plan(site, unit("a", write("a.txt")))
    spoil(site)
    before = snapshot(site.target)
    ran = mission(site, "run", "mission.toml")
    assert_refused(site, ran, *said)
    assert snapshot(site.target) == before


# -- refused when the target is looked into ------------------------------------------------------


def _submodule(site: Site) -> None:
    git(site.folder, "clone", "--quiet", str(site.target), str(site.folder / "inner"))
    inner = str(site.folder / "inner")
    git(site.target, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner)
    git(site.target, "commit", "--quiet", "-m", "Add a submodule")


def _large_files(site: Site) -> None:
    commit_files(site.target, {".gitattributes": "*.bin filter=lfs diff=lfs -text\n"}, "Use LFS")


def _command_not_found(site: Site) -> None:
    write_mission(site, verify={"command": "no-such-checker --all"})


def _red_base(site: Site) -> None:
    commit_files(site.target, {"bad.txt": "BROKEN\n"}, "Break it")


LATE: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "submodules": (_submodule, ("target", "submodules", "not supported")),
    "LFS": (_large_files, ("target", "LFS", "not supported")),
}
RED: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "command not found": (_command_not_found, ("no-such-checker", "[environment] path")),
    "red on the untouched base": (_red_base, ("bad.txt is broken",)),
}


@pytest.mark.needs_server
@pytest.mark.parametrize("case", LATE)
def test_a_target_that_is_not_supported_is_refused(
    prefect_address: ServerAddress, tmp_path: Path, case: str
) -> None:
    spoil, said = LATE[case]
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(site, unit("a", write("a.txt")))
    spoil(site)
    before = snapshot(site.target)
    assert_refused(site, mission(site), *said)
    assert snapshot(site.target) == before


@pytest.mark.needs_server
@pytest.mark.parametrize("case", RED)
def test_a_base_that_does_not_pass_is_refused_with_what_it_printed(
    prefect_address: ServerAddress, tmp_path: Path, case: str
) -> None:
    spoil, said = RED[case]
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(site, unit("a", f"touch $NOTES/ran; {write('a.txt')}"))
    spoil(site)
    before = snapshot(site.target)
    ran = mission(site)
    assert ran.code == 2, ran.text
    assert "Traceback" not in ran.text
    assert "red base" in ran.err
    assert any(all(s in line for s in said) for line in ran.err.splitlines()), ran.err
    if case != "command not found":
        assert "checking\n1:BROKEN\nbad.txt is broken" in ran.err, ran.err
    assert snapshot(site.target) == before, "green exists although nothing passed"
    assert not (site.notes / "ran").exists()
    (finished,) = events(ledger(site), "mission.finished")
    assert (finished["stop_reason"], finished["exit_code"]) == ("red base", 2)
    assert_promises(site)


# -- the state of green at the target ------------------------------------------------------------


@pytest.mark.needs_server
def test_a_green_that_diverged_in_conflict_is_refused_with_the_files_and_can_be_restarted(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(site, unit("a", write("a.txt")))
    git(site.target, "checkout", "--quiet", "-b", GREEN)
    old = commit_files(site.target, {"shared.txt": "green\n"}, "Work on green")
    git(site.target, "checkout", "--quiet", "main")
    commit_files(site.target, {"shared.txt": "base\n"}, "Work on base")
    before = snapshot(site.target)
    ran = mission(site)
    assert_refused(site, ran, GREEN, "main", "shared.txt", "--restart-green")
    assert snapshot(site.target) == before
    ran = mission(site, "run", str(site.mission_file), "--restart-green")
    assert ran.code == 0, ran.text
    assert_promises(site)
    assert ledger(site)[0]["restarted_green"]
    assert on_green(site, "shared.txt") == "base"
    assert on_green(site, "a.txt") == "done"
    (repository,) = (site.home / "repositories").glob("*.git")
    saved = git(repository, "for-each-ref", "--format=%(objectname)", "refs/missions/saved")
    assert saved == old


@pytest.mark.needs_server
def test_a_green_that_is_checked_out_is_left_alone_and_the_work_delivered_beside_it(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(site, unit("a", write("a.txt")))
    git(site.target, "checkout", "--quiet", "-b", GREEN)
    ran = mission(site)
    assert ran.code == 0, ran.text
    records = ledger(site)
    branch = events(records, "delivered")[-1]["branch"]
    assert branch == f"mission-green-{records[0]['mission']}"
    assert f"to {branch}" in ran.text
    assert on_green(site, "a.txt", branch) == "done"
    assert on_green(site, "a.txt") is None
    assert git(site.target, "status", "--porcelain") == ""
    assert_promises(site)


@pytest.mark.needs_server
def test_a_branch_in_the_way_of_green_is_left_alone_and_the_work_delivered_beside_it(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    write_plan(site, unit("a", write("a.txt")))
    git(site.target, "branch", "mission")
    ran = mission(site)
    assert ran.code == 0, ran.text
    records = ledger(site)
    branch = f"mission-green-{records[0]['mission']}"
    assert f"delivering to {branch} instead" in ran.text
    assert on_green(site, "a.txt", branch) == "done"
    assert_promises(site)


@pytest.mark.needs_server
def test_a_dirty_checkout_is_a_warning_and_stays_as_it_is_byte_for_byte(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url, files={".gitignore": "*.log\n"})
    write_plan(site, unit("a", "cat shared.txt > a.txt; echo two >> shared.txt"))
    (site.target / "shared.txt").write_text("dirty\n")
    (site.target / "staged.txt").write_text("staged\n")
    git(site.target, "add", "staged.txt")
    (site.target / "untracked.txt").write_text("untracked\n")
    (site.target / "ignored.log").write_text("ignored\n")
    before = snapshot(site.target)
    ran = mission(site)
    assert ran.code == 0, ran.text
    assert "warning: " in ran.err
    assert "uncommitted changes" in ran.err
    assert on_green(site, "a.txt") == "one"
    after = snapshot(site.target)
    ours = ("logs/", "objects/", f"refs/heads/{Path(GREEN).parent}")
    changed = {path for path in after if after[path] != before.get(path)}
    assert {p for p in changed if not p.removeprefix(".git/").startswith(ours)} == set()
    assert before.keys() <= after.keys()
    assert_promises(site)
