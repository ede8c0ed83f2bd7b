"""What agents do, well and badly: one mission whose units each do one odd thing.

Every unit has one attempt, so its one outcome is what the agent earned.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.server import ServerAddress
from tests.leaks import jobs_below
from tests.missions import (
    COMMIT,
    GREEN,
    Ran,
    Record,
    Site,
    assert_promises,
    commit_files,
    events,
    git,
    integration_repository,
    ledger,
    make_site,
    mission,
    on_green,
    statuses,
    unit,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server

IDENTIFY = "git config user.name me; git config user.email me@localhost.invalid"

TRAPS = """\
printf '#!/bin/sh\\ntouch %s\\n' "$NOTES/canary" > .git/trap
chmod +x .git/trap
mkdir -p .git/hooks .git/info
for hook in pre-commit post-commit post-checkout post-index-change reference-transaction \\
        pre-push update post-merge pre-auto-gc; do cp .git/trap .git/hooks/$hook; done
trap=$PWD/.git/trap
cat >> .git/config <<END
[core]
    fsmonitor = $trap
    hooksPath = $PWD/.git/hooks
    sshCommand = $trap
    alternateRefsCommand = $trap
[filter "evil"]
    clean = $trap
    smudge = $trap
    process = $trap
    required = true
[diff "evil"]
    textconv = $trap
    command = $trap
[merge "evil"]
    driver = $trap
[uploadpack]
    packObjectsHook = $trap
END
echo '* filter=evil diff=evil merge=evil' | tee .gitattributes > .git/info/attributes
echo trapped > traps.txt
"""


LAST = ("after-proven", "works-on-old", "odd-names", "stdin")
"""What ends the mission comes after what takes longest to start."""


def _odd_units() -> list[dict[str, Any]]:
    """Each unit's name says what its agent does."""
    return [
        unit("exits-1", "echo 'no idea' >&2; exit 1"),
        unit("exits-1-after-work", f"{write('half.txt')}; exit 1"),
        unit("commits-in-silence", f"{write('silent.txt')}; {COMMIT}"),
        unit("leaves-uncommitted", "mkdir -p deep && echo 1 > deep/uncommitted.txt"),
        unit("commits-and-leaves", f"{write('one.txt')}; {COMMIT}; {write('two.txt')}"),
        unit("changes-nothing", "true"),
        unit("changes-nothing-proven", "true", verify="test -f check.sh"),
        unit("changes-nothing-red", "true", verify="echo missing; test -f never.txt"),
        unit("after-proven", write("after.txt"), depends_on=["changes-nothing-proven"]),
        unit("unit-check-red", write("checked.txt"), verify="grep -q perfect checked.txt"),
        unit("times-out", f"{write('late.txt')}; sleep 300", timeout="1s"),
        unit("outside", f"{write('allowed.txt')}; {write('forbidden.txt')}", writes=["a*.txt"]),
        unit("protected", f"{write('fine.txt')}; echo '[x]' > mission.toml"),
        unit("background", f"(sleep 300 & setsid sleep 300 &) ; {write('background.txt')}"),
        unit("nested", f"git init -q sub && cd sub && {IDENTIFY}; {write('x.txt')}; {COMMIT}"),
        unit("traps", TRAPS),
        unit("floods", f"yes flood | head -c 50000000; {write('flood.txt')}"),
        unit("goes-back", "git reset --quiet --hard HEAD~1"),
        unit("works-on-old", f"git reset --quiet --hard HEAD~1; {write('old.txt')}; {COMMIT}"),
        unit("no-git", f"rm -rf .git; {write('no-git.txt')}"),
        unit("other-branch", f"git checkout --quiet -b mine; {write('mine.txt')}; {COMMIT}"),
        unit("detached", f"git checkout --quiet --detach; {write('head.txt')}; {COMMIT}"),
        unit("bad-head", f"{write('bad-head.txt')}; echo '../../etc' > .git/HEAD"),
        unit("odd-names", r"""echo 1 > "$(printf 'a \n\377"é.txt')"; echo 2 > ./-n"""),
        unit("stdin", "cat > stdin.txt", prompt="Ünïcödé $HOME `id` 'quotes'"),
        unit("not-there", "", command=["./no-such-agent"], depends_on=[*LAST]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """The mission of odd agents, ended."""

    site: Site
    ran: Ran
    records: list[Record]

    def attempt(self, name: str) -> Record:
        """The one attempt at a unit."""
        (record,) = events(self.records, "attempt.ended", unit=name)
        return record

    def status(self, name: str) -> str:
        """How a unit ended."""
        return statuses(self.records)[name]


@pytest.fixture(scope="module")
def odd(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Odd:
    site = make_site(
        tmp_path_factory.mktemp("odd"),
        api_url=prefect_address.api_url,
        backend={"slots": 6},
        limits={"max_attempts": 1, "max_failures_in_a_row": 100, "max_faults": 1},
    )
    commit_files(site.target, {"newer.txt": "newer\n"}, "Add what is newer")
    write_plan(site, *_odd_units())
    ran = mission(site)
    return Odd(site=site, ran=ran, records=ledger(site))


def test_what_was_promised_holds_with_odd_agents(odd: Odd) -> None:
    assert_promises(odd.site, rerun=slice(-1, None))
    assert "Traceback" not in odd.ran.text


@pytest.mark.parametrize(
    ("name", "outcome", "said"),
    [
        ("exits-1", "failed", "the agent exited with 1\nno idea"),
        ("exits-1-after-work", "failed", "the agent exited with 1"),
        ("changes-nothing", "no change", "no verification that could prove it done"),
        ("changes-nothing-red", "no change", "test -f never.txt\nmissing"),
        ("unit-check-red", "refused", "grep -q perfect checked.txt"),
        ("times-out", "timed out", "timed out after 1 s"),
        ("outside", "refused", "outside its write set (a*.txt): forbidden.txt"),
        ("protected", "refused", "protected paths were changed: mission.toml"),
        ("nested", "refused", "repositories inside the repository are not taken: sub"),
        ("goes-back", "no change", "nothing was changed"),
    ],
)
def test_what_does_not_land_says_why(odd: Odd, name: str, outcome: str, said: str) -> None:
    attempt = odd.attempt(name)
    assert attempt["outcome"] == outcome
    assert said in attempt["detail"]
    assert odd.status(name) == "failed"
    (ended,) = events(odd.records, "unit.ended", unit=name)
    assert said in ended["reason"]
    assert f"{name}: {outcome}: " in odd.ran.out


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("commits-in-silence", ["silent.txt"]),
        ("leaves-uncommitted", ["deep/uncommitted.txt"]),
        ("commits-and-leaves", ["one.txt", "two.txt"]),
        ("background", ["background.txt"]),
        ("floods", ["flood.txt"]),
        ("no-git", ["no-git.txt"]),
        ("other-branch", ["mine.txt"]),
        ("detached", ["head.txt"]),
        ("bad-head", ["bad-head.txt"]),
    ],
)
def test_what_an_agent_left_lands_however_it_left_it(odd: Odd, name: str, files: list[str]) -> None:
    assert odd.attempt(name)["outcome"] == "collected"
    assert odd.attempt(name)["files"] == files
    assert odd.status(name) == "landed"
    for path in files:
        assert on_green(odd.site, path)


def test_uncommitted_work_is_committed_under_our_identity_with_the_units_title(odd: Odd) -> None:
    head = odd.attempt("leaves-uncommitted")["head"]
    told = git(integration_repository(odd.site), "log", "-1", "--format=%an <%ae> %s", head)
    assert told == "Mission <mission@localhost.invalid> Do leaves-uncommitted"


def test_no_change_whose_verification_passes_satisfies_those_that_depend_on_it(odd: Odd) -> None:
    assert odd.attempt("changes-nothing-proven")["proven"]
    assert odd.status("changes-nothing-proven") == "no change"
    assert odd.status("after-proven") == "landed"


def test_an_agent_that_times_out_is_killed_and_its_work_kept(odd: Odd) -> None:
    attempt = odd.attempt("times-out")
    assert 1.0 <= attempt["agent_seconds"] < 10.0
    assert attempt["files"] == ["late.txt"]
    assert on_green(odd.site, "late.txt") is None


def test_children_in_the_background_neither_hold_up_an_attempt_nor_outlive_it(odd: Odd) -> None:
    assert odd.attempt("background")["agent_seconds"] < 10.0
    assert jobs_below(odd.site.folder) == {}


def test_nothing_in_an_agents_git_folder_is_ever_run(odd: Odd) -> None:
    """Hooks, fsmonitor, filters, diff and merge drivers: whatever configuration can name."""
    assert odd.status("traps") == "landed"
    assert not (odd.site.notes / "canary").exists()


def test_the_traps_would_have_sprung(odd: Odd, tmp_path: Path) -> None:
    """Else the test above proves nothing: git itself runs them."""
    victim = tmp_path / "victim"
    git(tmp_path, "init", "--quiet", str(victim))
    subprocess.run(
        ["sh", "-c", TRAPS], cwd=victim, env={**os.environ, "NOTES": str(tmp_path)}, check=True
    )
    subprocess.run(["git", "status"], cwd=victim, check=False, capture_output=True)
    assert (tmp_path / "canary").exists()


def test_a_flood_of_output_is_counted_and_the_log_bounded(odd: Odd) -> None:
    assert odd.attempt("floods")["output_bytes"] == 50_000_000
    (log,) = odd.site.home.glob("places/local/jobs/*/floods/1/output.log")
    assert log.stat().st_size <= 64 * 2**20


def test_going_back_to_an_older_commit_undoes_nothing_on_green(odd: Odd) -> None:
    assert odd.status("works-on-old") == "landed"
    assert on_green(odd.site, "old.txt") == "done"
    assert on_green(odd.site, "newer.txt") == "newer"
    assert git(odd.site.target, "log", "--diff-filter=D", "--format=%s", f"main..{GREEN}") == ""


def test_names_that_are_no_text_land_and_are_shown_escaped(odd: Odd) -> None:
    assert odd.attempt("odd-names")["files"] == ["-n", 'a \n\\xff"é.txt']
    listing = git(odd.site.target, "ls-tree", "-r", "--name-only", GREEN)
    assert r'"a \n\377\"\303\251.txt"' in listing.splitlines()


def test_the_prompt_is_on_stdin_and_never_meets_a_shell(odd: Odd) -> None:
    told = on_green(odd.site, "stdin.txt") or ""
    assert told.startswith("# Do stdin\n\nÜnïcödé $HOME `id` 'quotes'\n\n## Where you may write\n")


def test_a_command_that_is_not_there_uses_no_attempt_and_fails_its_unit_alone(odd: Odd) -> None:
    ends = events(odd.records, "attempt.ended", unit="not-there")
    assert {r["outcome"] for r in ends} == {"infrastructure"}
    (ended,) = events(odd.records, "unit.ended", unit="not-there")
    assert ended["status"] == "failed"
    assert "others went well meanwhile: the agent could not be started" in ended["reason"]
    assert "no-such-agent" in ended["reason"]
    assert odd.ran.code == 1
