"""The integration repository against real git: merging without a checkout, refs, the target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.errors import CannotDeliver, CannotMerge, RepositoryUnusable, TargetMoved
from blocks.repository import (
    IntegrationRepository,
    forget_other_repositories,
    look_at,
    remote_branches,
)
from tests.missions import commit_files, git, make_repository

GREEN = "refs/heads/mission/green"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "target", {"a.txt": "a\n", "b.txt": "b\n"})


@pytest.fixture
def repository(tmp_path: Path, target: Path) -> Iterator[IntegrationRepository]:
    opened = IntegrationRepository(tmp_path / "home" / "target.git")
    opened.fetch(str(target), ["main"])
    yield opened
    opened.close()


@pytest.fixture
def base(target: Path) -> str:
    return git(target, "rev-parse", "main")


def made(repository: IntegrationRepository, target: Path, base: str, **files: str) -> str:
    """A commit on top of `base` that is in the integration repository alone."""
    git(target, "checkout", "--quiet", "--detach", base)
    named = {name.replace("_", "."): text for name, text in files.items()}
    commit = commit_files(target, named, "Work")
    git(target, "push", "--quiet", str(repository.path), f"{commit}:refs/missions/m/u/{commit}")
    git(target, "checkout", "--quiet", "main")
    return commit


# -- merging ---------------------------------------------------------------------------------------


def test_work_on_the_tip_lands_as_one_commit_with_the_very_tree(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    first = made(repository, target, base, a_txt="1\n")
    head = made(repository, target, first, a_txt="2\n")
    merged = repository.merge(base, head, "Title\n", base=base, tree=repository.tree_of(head))
    assert merged.tree == repository.tree_of(head)
    assert git(repository.path, "rev-parse", f"{merged.commit}^@") == base
    assert git(repository.path, "log", "-1", "--format=%B", merged.commit) == "Title"
    author = git(repository.path, "log", "-1", "--format=%an %cn", merged.commit)
    assert author == "Mission Mission"


def test_work_on_an_older_base_is_merged_with_what_landed_meanwhile(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    left = made(repository, target, base, a_txt="left\n")
    right = made(repository, target, base, b_txt="right\n")
    merged = repository.merge(left, right, "m", base=base, tree=repository.tree_of(right))
    assert repository.show(merged.commit, "a.txt") == b"left\n"
    assert repository.show(merged.commit, "b.txt") == b"right\n"


def test_history_is_kept_when_asked_for(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    head = made(repository, target, base, a_txt="1\n")
    merged = repository.merge(base, head, "m", base=base, keep_history=True)
    assert git(repository.path, "rev-parse", f"{merged.commit}^@").split() == [base, head]


def test_a_head_on_an_older_commit_than_its_base_undoes_nothing(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    newer = made(repository, target, base, a_txt="newer\n")
    head = made(repository, target, base, b_txt="work\n")
    merged = repository.merge(newer, head, "m", base=newer, tree=None)
    assert repository.show(merged.commit, "a.txt") == b"newer\n"
    assert repository.show(merged.commit, "b.txt") == b"work\n"


def test_a_conflict_names_the_files_and_moves_nothing(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    left = made(repository, target, base, a_txt="left\n", b_txt="left\n", c_txt="same\n")
    right = made(repository, target, base, a_txt="right\n", b_txt="right\n", c_txt="same\n")
    before = repository.refs("refs")
    with pytest.raises(CannotMerge) as refused:
        repository.merge(left, right, "m", base=base)
    assert refused.value.files == ("a.txt", "b.txt")
    assert repository.refs("refs") == before


def test_a_file_that_one_side_deletes_and_the_other_edits_is_a_conflict(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    edited = made(repository, target, base, a_txt="edited\n")
    git(target, "checkout", "--quiet", "--detach", base)
    git(target, "rm", "--quiet", "a.txt")
    deleted = commit_files(target, {}, "Delete")
    git(target, "push", "--quiet", str(repository.path), f"{deleted}:refs/missions/m/d/1")
    with pytest.raises(CannotMerge, match=r"a\.txt"):
        repository.merge(edited, deleted, "m", base=base)


# -- refs ------------------------------------------------------------------------------------------


def test_a_ref_moves_only_from_where_it_is_expected(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    one, two = (made(repository, target, base, a_txt=text) for text in ("1\n", "2\n"))
    repository.move_ref(GREEN, base, None)
    repository.move_ref(GREEN, one, base)
    with pytest.raises(TargetMoved, match=base):
        repository.move_ref(GREEN, two, base)
    with pytest.raises(TargetMoved):
        repository.move_ref(GREEN, two, None)
    assert repository.resolve(GREEN) == one


def test_moving_a_ref_again_to_where_it_is_does_no_harm(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    one = made(repository, target, base, a_txt="1\n")
    for _ in range(2):
        repository.move_ref(GREEN, base, None)
    for _ in range(2):
        repository.move_ref(GREEN, one, base)
    assert repository.resolve(GREEN) == one


def test_what_is_not_there_is_none(repository: IntegrationRepository, base: str) -> None:
    assert repository.resolve("refs/heads/none") is None
    assert repository.resolve("f" * 40) is None
    assert repository.show(base, "none.txt") is None


def test_files_tell_paths_and_modes(repository: IntegrationRepository, base: str) -> None:
    assert repository.files(base) == {"a.txt": "100644", "b.txt": "100644"}
    assert repository.files(base, "a.txt") == {"a.txt": "100644"}


def test_a_commit_contains_itself_and_what_it_was_made_from(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    one = made(repository, target, base, a_txt="1\n")
    assert repository.is_ancestor(base, one)
    assert repository.is_ancestor(one, one)
    assert not repository.is_ancestor(one, base)
    assert not repository.is_ancestor("f" * 40, base)


# -- the target ------------------------------------------------------------------------------------


def test_fetching_leaves_out_branches_that_are_not_there(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    assert repository.fetch(str(target), ["main", "mission/green"]) == {"main": base}


def test_a_branch_is_made_and_then_only_moved_from_where_it_was_seen(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    one, two = (made(repository, target, base, a_txt=text) for text in ("1\n", "2\n"))
    url = str(target)
    repository.push(url, base, "mission/green", old=None)
    repository.push(url, one, "mission/green", old=base)
    with pytest.raises(TargetMoved):
        repository.push(url, two, "mission/green", old=base)
    with pytest.raises(TargetMoved):
        repository.push(url, two, "mission/green", old=None)
    assert remote_branches(url) == {"main": base, "mission/green": one}


def test_a_branch_that_is_checked_out_is_refused_by_the_target(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    one = made(repository, target, base, a_txt="1\n")
    with pytest.raises(CannotDeliver, match="checked out"):
        repository.push(str(target), one, "main", old=base)
    assert (target / "a.txt").read_text() == "a\n"


def test_a_branch_in_the_way_is_said_to_be(
    repository: IntegrationRepository, target: Path, base: str
) -> None:
    git(target, "branch", "mission")
    with pytest.raises(CannotDeliver, match="mission"):
        repository.push(str(target), base, "mission/green", old=None)


def test_a_hook_of_the_target_that_refuses_is_heard_and_none_of_ours_is_run(
    repository: IntegrationRepository, target: Path, base: str, tmp_path: Path
) -> None:
    hooks = {target / ".git": "pre-receive", repository.path: "pre-push"}
    for folder, name in hooks.items():
        hook = folder / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho 'error: {name} says no' >&2\nexit 1\n")
        hook.chmod(0o755)
    with pytest.raises(CannotDeliver, match=r"pre-receive says no|hook declined") as refused:
        repository.push(str(target), base, "mission/green", old=None)
    assert "pre-push" not in str(refused.value)


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_repository_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(RepositoryUnusable, match=name):
        remote_branches(str(tmp_path / name))


def test_looking_at_a_target_changes_not_a_byte_of_it(target: Path) -> None:
    (target / "a.txt").touch()  # makes a plain `git status` rewrite the index
    files = [p for p in target.rglob("*") if p.is_file()]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    checkout = look_at(target)
    assert not checkout.is_dirty
    assert checkout.branches == {"main"}
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before


def test_looking_at_a_target_tells_dirt_shallowness_and_worktrees(
    target: Path, tmp_path: Path
) -> None:
    git(target, "worktree", "add", "--quiet", "-b", "mission/green", str(tmp_path / "other"))
    (target / "untracked.txt").write_text("nobody minds")
    assert not look_at(target).is_dirty
    (target / "a.txt").write_text("edited")
    found = look_at(target)
    assert found.is_dirty
    assert found.branches == {"main", "mission/green"}
    commit_files(target, {}, "Second")
    git(tmp_path, "clone", "--quiet", "--depth=1", target.as_uri(), str(tmp_path / "shallow"))
    assert look_at(tmp_path / "shallow").is_shallow
    with pytest.raises(RepositoryUnusable, match="no git repository"):
        look_at(tmp_path)


# -- other people's configuration ------------------------------------------------------------------


def test_the_users_configuration_does_not_reach_our_commits(
    repository: IntegrationRepository, target: Path, base: str, tmp_path: Path
) -> None:
    head = made(repository, target, base, a_txt="1\n")
    home = tmp_path / "user"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n name = Somebody\n email = s@s\n[commit]\n gpgsign = true\n"
        "[i18n]\n commitEncoding = latin1\n[core]\n fsmonitor = false\n"
    )
    os.environ["HOME"] = str(home)
    os.environ["GIT_AUTHOR_NAME"] = "Somebody"
    merged = repository.merge(base, head, "Grüße", base=base)
    assert repository._git("log", "-1", "--format=%B", merged.commit).decode().strip() == "Grüße"
    raw = git(repository.path, "cat-file", "commit", merged.commit)
    assert "Somebody" not in raw
    assert "gpgsig" not in raw


def test_a_git_hook_may_start_us(
    repository: IntegrationRepository, target: Path, base: str, tmp_path: Path
) -> None:
    """Inside a hook git sets variables that point all git commands at its own repository."""
    elsewhere = make_repository(tmp_path / "elsewhere", {"x": "x"})
    misleading = {
        "GIT_DIR": str(elsewhere / ".git"),
        "GIT_WORK_TREE": str(elsewhere),
        "GIT_INDEX_FILE": str(elsewhere / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(elsewhere / ".git" / "objects"),
    }
    os.environ.update({**misleading, "GIT_SSH_COMMAND": "ssh -v"})
    forget_other_repositories()
    assert not os.environ.keys() & misleading.keys()
    assert os.environ["GIT_SSH_COMMAND"] == "ssh -v"
    assert remote_branches(str(target)) == {"main": base}
    assert look_at(target).branches == {"main"}
