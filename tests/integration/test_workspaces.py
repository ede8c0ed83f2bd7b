"""Workspaces against real git: exact resets, tolerant collection, nothing of the agent's is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blocks.errors import CommandFailed
from blocks.places.local import LocalPlace
from blocks.places.workspaces import BRANCH, GITLINK, SYMLINK, Changed, Collected, Workspace
from blocks.repository import IntegrationRepository
from tests.missions import commit_files, git, make_repository

FILES = {
    "a.txt": "a\n",
    "run.sh": "echo run\n",
    ".gitignore": "*.log\n.venv/\n",
    "deep/er/b.txt": "b\n",
}
REF = "refs/missions/m/u/1"

DEEP = """
import os
for _ in range(3000):
    os.mkdir("deeper")
    os.chdir("deeper")
"""
"""Deeper than a path may be long and than Python recurses."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IntegrationRepository]:
    target = make_repository(tmp_path / "target", FILES)
    (target / "run.sh").chmod(0o755)
    commit_files(target, {}, "Make it run")
    commit_files(target, {"newer.txt": "newer\n"}, "Add what is newer")
    opened = IntegrationRepository(tmp_path / "store.git")
    opened.fetch(str(target), ["main"])
    yield opened
    opened.close()


@pytest.fixture
def base(store: IntegrationRepository) -> str:
    commit = store.resolve("refs/target/main")
    assert commit is not None
    return commit


@pytest.fixture
def workspace(tmp_path: Path, store: IntegrationRepository, base: str) -> Iterator[Workspace]:
    """A workspace that was reset to the base."""
    made = slot(tmp_path, store, 0)
    made.reset(base)
    yield made
    # What went wrong may have left what pytest cannot take away.
    subprocess.run(["rm", "-rf", made.directory], check=True)


def slot(folder: Path, store: IntegrationRepository, number: int) -> Workspace:
    place = LocalPlace(folder / "place")
    directory = f"{place.root}/workspaces/{number}"
    return Workspace(place=place, directory=directory, store=str(store.path), keep=(".venv",))


def agent(workspace: Workspace, script: str) -> str:
    """Run a script as an agent would; returns what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": workspace.home}
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=workspace.tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def collect(workspace: Workspace, base: str) -> Collected:
    return workspace.collect(base=base, ref=REF, message="The title")


def listing(workspace: Workspace) -> dict[str, str]:
    """The files of a workspace's tree, `.git` left out."""
    tree = Path(workspace.tree)
    paths = (p for p in tree.rglob("*") if p.is_file() and ".git" not in p.parts)
    return {str(p.relative_to(tree)): p.read_text() for p in paths}


# -- reset -----------------------------------------------------------------------------------------


def test_a_reset_gives_the_very_commit_in_a_repository_of_its_own(
    workspace: Workspace, base: str
) -> None:
    assert listing(workspace) == {**FILES, "newer.txt": "newer\n"}
    assert agent(workspace, "git rev-parse HEAD") == base
    assert agent(workspace, "git status --porcelain --ignored") == ""
    assert agent(workspace, "git branch --show-current") == BRANCH
    assert agent(workspace, "git remote") == ""
    assert agent(workspace, "git log --format=%s").splitlines()[-1] == "Begin"
    assert os.access(f"{workspace.tree}/run.sh", os.X_OK)
    assert not [*Path(workspace.home).iterdir()]


def test_what_an_agent_commits_goes_to_its_own_repository(
    workspace: Workspace, store: IntegrationRepository
) -> None:
    head = agent(workspace, "echo 1 > a.txt; git commit -qam work; git rev-parse HEAD")
    assert store.resolve(head) is None


def test_a_reset_removes_all_that_was_left_but_what_is_kept(
    workspace: Workspace, base: str
) -> None:
    agent(
        workspace,
        "echo x > a.txt; rm -r deep; chmod -x run.sh; echo 1 > new.txt; echo 1 > ignored.log;"
        "mkdir -p .venv/bin sub; echo kept > .venv/bin/tool; git -C sub init -q;"
        "touch sub/x; ln -s /etc out; echo 1 > $HOME/.profile; git commit -qam mess; git tag t",
    )
    workspace.reset(base)
    assert listing(workspace) == {**FILES, "newer.txt": "newer\n", ".venv/bin/tool": "kept\n"}
    assert not Path(workspace.tree, "out").is_symlink()
    assert not Path(workspace.tree, "sub").exists()
    assert agent(workspace, "git tag; git status --porcelain") == ""
    assert os.access(f"{workspace.tree}/run.sh", os.X_OK)
    assert not [*Path(workspace.home).iterdir()]


@pytest.mark.parametrize(
    "damage",
    [
        "rm -rf .git",
        "rm -rf .git; echo 'gitdir: /nowhere' > .git",
        "echo garbage > .git/index; echo garbage > .git/HEAD",
        "echo garbage > ../index",
        "touch ../index.lock .git/index.lock",
        "rm -rf ../tree",
        "rm -rf ../tree ../index; echo 1 > ../tree",
        "mkdir -p ro/sub; touch ro/sub/x; chmod -R a-w ro",
        f"python3 -c '{DEEP}'",
        "mkfifo pipe deep/pipe; rm a.txt; mkfifo a.txt",
    ],
)
def test_a_workspace_recovers_from_what_an_agent_did_to_it(
    workspace: Workspace, base: str, damage: str
) -> None:
    agent(workspace, damage)
    workspace.reset(base)
    assert listing(workspace) == {**FILES, "newer.txt": "newer\n"}
    assert agent(workspace, "git status --porcelain") == ""
    assert agent(workspace, "find . ! -type f ! -type d") == ""


def test_a_tree_that_became_a_link_is_replaced_and_what_it_led_to_is_untouched(
    workspace: Workspace, base: str, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    agent(workspace, f"rm -rf ../tree; ln -s {precious} ../tree")
    workspace.reset(base)
    assert (precious / "file").read_text() == "precious"
    assert [*precious.iterdir()] == [precious / "file"]
    assert not Path(workspace.tree).is_symlink()
    assert agent(workspace, "git status --porcelain") == ""


def test_a_commit_that_is_not_there_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(CommandFailed):
        workspace.reset("f" * 40)


def test_workspaces_of_one_store_are_used_at_once(
    tmp_path: Path, store: IntegrationRepository, base: str
) -> None:
    def work(number: int) -> str:
        mine = slot(tmp_path, store, number)
        mine.reset(base)
        agent(mine, f"echo {number} > n.txt; git add n.txt; git commit -qm n")
        ref = f"refs/missions/m/u/{number}"
        return mine.collect(base=base, ref=ref, message="t").head

    with ThreadPoolExecutor(6) as pool:
        heads = [*pool.map(work, range(6))]
    found = [store.show(head, "n.txt") for head in heads]
    assert found == [f"{number}\n".encode() for number in range(6)]


# -- collection ------------------------------------------------------------------------------------


def test_nothing_changed_is_the_base_and_makes_no_ref(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    agent(workspace, "touch a.txt; echo 1 > ignored.log; git commit -q --allow-empty -m x")
    agent(workspace, "git reset -q --soft HEAD~1")
    collected = collect(workspace, base)
    assert (collected.head, collected.tree) == (base, store.tree_of(base))
    assert collected.changed == ()
    assert store.resolve(REF) is None


def test_uncommitted_work_becomes_one_commit_of_ours(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    agent(
        workspace,
        "echo 1 > new.txt; rm newer.txt; chmod +x a.txt; ln -s a.txt link; git add new.txt",
    )
    collected = collect(workspace, base)
    assert store.resolve(REF) == collected.head
    assert store.tree_of(collected.head) == collected.tree
    assert git(store.path, "rev-parse", f"{collected.head}^@") == base
    told = git(store.path, "log", "-1", "--format=%an %s", collected.head)
    assert told == "Mission The title"
    assert collected.changed == (
        Changed(path="a.txt", mode="100755"),
        Changed(path="link", mode=SYMLINK, target="a.txt"),
        Changed(path="new.txt", mode="100644"),
        Changed(path="newer.txt", mode="000000"),
    )


def test_commits_are_taken_as_they_are_and_what_is_left_goes_on_top(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    script = "echo 1 > a.txt; git commit -qam one; git rev-parse HEAD; echo 2 > b.txt"
    own = agent(workspace, script)
    collected = collect(workspace, base)
    assert git(store.path, "rev-parse", f"{collected.head}^") == own
    assert collected.files == ("a.txt", "b.txt")


@pytest.mark.parametrize(
    "script",
    [
        "git commit -qam x",
        "git commit -qam x; git pack-refs --all",
        "git commit -qam x; git gc -q --prune=now",
        "git checkout -q -b topic/of-mine; git commit -qam x",
        "git checkout -q --detach; git commit -qam x",
        "git commit -qam y; git commit -q --amend -m x",
    ],
)
def test_the_agents_head_is_found_wherever_it_is(
    workspace: Workspace, store: IntegrationRepository, base: str, script: str
) -> None:
    agent(workspace, f"echo changed > a.txt; {script}")
    collected = collect(workspace, base)
    assert git(store.path, "log", "-1", "--format=%B", collected.head) == "x"
    assert store.show(collected.head, "a.txt") == b"changed\n"


@pytest.mark.parametrize(
    "damage",
    [
        "rm -rf .git",
        "rm -rf .git; git init -q; git add -A; git commit -qm mine",
        "echo garbage > .git/HEAD",
        "echo 'ref: refs/heads/../../../../etc/passwd' > .git/HEAD",
        "echo ffffffffffffffffffffffffffffffffffffffff > .git/HEAD",
        "git commit -qam x; rm -rf .git/objects",
        "rm -rf .git; ln -s /nowhere .git",
        "git commit -qam x; git checkout -q --orphan new; git commit -qm y",
    ],
)
def test_work_survives_whatever_became_of_the_agents_repository(
    workspace: Workspace, store: IntegrationRepository, base: str, damage: str
) -> None:
    agent(
        workspace,
        "git config --global user.name A; git config --global user.email a@b;"
        f"echo precious > a.txt; {damage}",
    )
    collected = collect(workspace, base)
    assert store.resolve(REF) == collected.head != base
    assert store.show(collected.head, "a.txt") == b"precious\n"
    assert store.show(collected.head, "newer.txt") == b"newer\n"


def test_commits_without_a_common_history_are_passed_over_and_the_work_is_kept(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    agent(workspace, "git checkout -q --orphan new; echo 1 > new.txt; git add -A; git commit -qm y")
    collected = collect(workspace, base)
    assert git(store.path, "rev-parse", f"{collected.head}^") == base
    assert (collected.files, collected.descends) == (("new.txt",), True)


def test_going_back_to_an_older_commit_is_no_change(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    agent(workspace, "git reset -q --hard HEAD~1")
    assert collect(workspace, base).head == base
    assert collect(workspace, base).tree == store.tree_of(base)
    assert store.resolve(REF) is None


@pytest.mark.parametrize("is_committed", [True, False])
def test_work_on_an_older_commit_is_told_apart_for_its_tree_alone_would_undo_what_is_newer(
    workspace: Workspace, store: IntegrationRepository, base: str, is_committed: bool
) -> None:
    script = "git reset -q --hard HEAD~1; echo 1 > new.txt"
    agent(workspace, f"{script}; git add new.txt; git commit -qm x" if is_committed else script)
    collected = collect(workspace, base)
    assert not collected.descends
    assert store.show(collected.head, "newer.txt") is None
    merged = store.merge(base, collected.head, "m", base=base)
    assert store.show(merged.commit, "newer.txt") == b"newer\n"
    assert store.show(merged.commit, "new.txt") == b"1\n"


def test_objects_that_git_itself_would_refuse_do_not_come_in(
    workspace: Workspace, store: IntegrationRepository, base: str
) -> None:
    """A tree with an entry named `.git` is the classic way to plant a hook."""
    evil = agent(
        workspace,
        "blob=$(echo evil | git hash-object -w --stdin);"
        'tree=$(printf "100644 blob $blob\\t.git\\n" | git mktree);'
        "git reset -q --soft $(git commit-tree $tree -p HEAD -m evil); git rev-parse HEAD;"
        "echo fine > fine.txt",
    )
    collected = collect(workspace, base)
    assert store.resolve(evil) is None
    assert collected.files == ("fine.txt",)


def test_objects_of_other_repositories_do_not_come_in(
    workspace: Workspace, store: IntegrationRepository, base: str, tmp_path: Path
) -> None:
    """Alternates could lead to any repository that we may read and the agent may not."""
    other = make_repository(tmp_path / "private", {"secret.txt": "secret\n"})
    secret = git(other, "rev-parse", "HEAD")
    alternates = ".git/objects/info/alternates"
    agent(workspace, f"echo {other}/.git/objects >> {alternates}; echo {secret} > .git/HEAD")
    collected = collect(workspace, base)
    assert store.resolve(secret) is None
    assert "secret.txt" not in store.files(collected.head)


def test_a_repository_inside_the_repository_is_shown_as_one(
    workspace: Workspace, base: str
) -> None:
    agent(
        workspace,
        "git config --global user.name A; git config --global user.email a@b;"
        "git init -q sub; cd sub; touch x; git add x; git commit -qm x",
    )
    assert collect(workspace, base).changed == (Changed(path="sub", mode=GITLINK),)


def test_what_a_repository_inside_the_repository_configured_is_not_run(
    workspace: Workspace, store: IntegrationRepository, base: str, tmp_path: Path
) -> None:
    """`git add` looks by `git status` into the repositories that the index knows."""
    canary = tmp_path / "canary"
    agent(
        workspace,
        f"""
        git config --global user.name A; git config --global user.email a@b
        git init -q sub; (cd sub; echo 1 > x; git add x; git commit -qm x)
        git add -A; git commit -qm 'take it in'; echo 1 > more.txt
        printf '#!/bin/sh\\ntouch {canary}\\n' > .git/trap; chmod +x .git/trap
        git -C sub config core.fsmonitor $PWD/.git/trap
        """,
    )
    collected = collect(workspace, base)
    assert not canary.exists()
    expected = (Changed(path="more.txt", mode="100644"), Changed(path="sub", mode=GITLINK))
    assert collected.changed == expected
    assert store.resolve(REF) == collected.head
    workspace.reset(collected.head)
    assert collect(workspace, collected.head).changed == ()
    agent(workspace, f"git init -q sub; echo {base} > sub/.git/HEAD")
    assert [c.path for c in collect(workspace, collected.head).changed] == ["sub"]


@pytest.mark.parametrize("what", [".git", ".git/objects", ".git/objects/info"])
def test_a_link_in_the_agents_repository_changes_nothing_elsewhere(
    workspace: Workspace, store: IntegrationRepository, base: str, tmp_path: Path, what: str
) -> None:
    other = make_repository(tmp_path / "other", {"secret.txt": "secret\n"})
    secret = git(other, "rev-parse", "HEAD")
    alternates = other / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text("/elsewhere\n")
    agent(
        workspace,
        f"echo mine > mine.txt; git add -A; git commit -qm mine; rm -rf {what};"
        f"ln -s {other}/{what} {what}; [ -L .git ] || echo {secret} > .git/HEAD",
    )
    collected = collect(workspace, base)
    assert alternates.read_text() == "/elsewhere\n"
    assert collected.files == ("mine.txt",)
    assert store.resolve(secret) is None


def test_pipes_in_the_agents_repository_hold_up_nobody(workspace: Workspace, base: str) -> None:
    pack = ".git/objects/pack/pack-" + 40 * "0"
    agent(
        workspace,
        "echo mine > mine.txt; git add -A; git commit -qm mine; mkdir -p .git/objects/pack;"
        f"touch {pack}.pack; mkfifo {pack}.idx",
    )
    assert collect(workspace, base).files == ("mine.txt",)


@pytest.mark.parametrize("script", ["rm -rf ../tree", "mv ../tree ../away; ln -s {} ../tree"])
def test_a_workspace_that_was_taken_away_holds_no_change(
    workspace: Workspace, base: str, tmp_path: Path, script: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "secret.txt").write_text("secret\n")
    agent(workspace, script.format(precious))
    assert collect(workspace, base).head == base
    assert listing(workspace) == {**FILES, "newer.txt": "newer\n"}
    assert (precious / "secret.txt").read_text() == "secret\n"


def test_a_link_is_shown_with_where_it_leads(workspace: Workspace, base: str) -> None:
    script = r"""
    ln -s ../newer.txt deep/in; ln -s ../../newer.txt deep/out
    ln -s "$(printf 'n\n\377')" odd; ln -s . here; ln -s here/.. tricky; ln -s /etc absolute
    """
    agent(workspace, script)
    found = {c.path: (c.target, c.leads_out) for c in collect(workspace, base).changed}
    assert found == {
        "absolute": ("/etc", True),
        "deep/in": ("../newer.txt", False),
        "deep/out": ("../../newer.txt", True),
        "here": (".", False),
        "odd": ("n\n\\xff", False),
        "tricky": ("here/..", True),
    }


def test_names_that_are_no_text_are_shown_escaped(workspace: Workspace, base: str) -> None:
    agent(workspace, r"""echo 1 > "$(printf 'n\n\377"')"; echo 1 > -rf; echo 1 > é""")
    assert collect(workspace, base).files == ("-rf", 'n\n\\xff"', "é")


def test_nothing_that_an_agent_configured_is_run_by_a_reset_or_a_collection(
    workspace: Workspace, base: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    agent(
        workspace,
        f"""
        printf '#!/bin/sh\\ntouch {canary}\\n' > .git/trap; chmod +x .git/trap; t=$PWD/.git/trap
        for hook in post-checkout post-index-change pre-commit reference-transaction; do
            mkdir -p .git/hooks; cp .git/trap .git/hooks/$hook
        done
        git config --global core.fsmonitor $t; git config core.hooksPath $PWD/.git/hooks
        git config filter.evil.clean $t; git config filter.evil.smudge $t
        git config filter.evil.required true
        echo '* filter=evil' > .gitattributes; cp .gitattributes .git/info/attributes
        git config core.fsmonitor $t
        """,
    )
    collected = collect(workspace, base)
    workspace.reset(collected.head)
    assert not canary.exists()
    assert collected.files == (".gitattributes",)
    agent(workspace, "echo 1 > a.txt")
    collect(workspace, base)
    assert not canary.exists()


# -- setup inputs ----------------------------------------------------------------------------------


def test_the_digest_of_inputs_follows_their_content_and_presence(workspace: Workspace) -> None:
    inputs = ("a.txt", "lock")
    first = workspace.digest_of(inputs)
    assert workspace.digest_of(inputs) == first
    agent(workspace, "echo other > a.txt")
    second = workspace.digest_of(inputs)
    agent(workspace, "echo 1 > lock")
    assert len({first, second, workspace.digest_of(inputs)}) == 3
    assert workspace.digest_of(()) == ""
