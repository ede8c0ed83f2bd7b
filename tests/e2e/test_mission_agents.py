"""What agents do, well and badly: one mission whose units each do one odd thing.

Every unit has one attempt, so its one outcome is what the agent earned.
"""

from __future__ import annotations

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

CANARY = 'touch "$NOTES/canary"'
"""What must never run outside the agent's own process."""

TRAPS = f"""\
printf '#!/bin/sh\\n{CANARY.replace('"', "")}\\n' > .git/trap
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
        unit("nested", f"git init -q sub && cd sub && {write('x.txt')} && {COMMIT}"),
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
        unit("not-there", "", command=["./no-such-agent"]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """The mission of odd agents, ended."""

    site: Site
    ran: Ran
    records: list[Record]
    environment: dict[str, str]

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
    return Odd(site=site, ran=ran, records=ledger(site), environment={})


def test_what_was_promised_holds_with_odd_agents(odd: Odd) -> None:
    assert odd.ran.code in {1, 3}, odd.ran.text
    assert_promises(odd.site, rerun=slice(-1, None))
