"""What happens to work that does not fit together: lines, files, meanings."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    CHECK,
    GREEN,
    Record,
    Site,
    assert_promises,
    events,
    git,
    ledger,
    make_site,
    mission,
    on_green,
    outcomes,
    statuses,
    unit,
    write_plan,
)

pytestmark = pytest.mark.needs_server

CLASH = """\
if [ -e left.txt ] && [ -e right.txt ]; then echo "left and right clash"; exit 1; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A mission that has ended."""

    site: Site
    records: list[Record]


@pytest.fixture(scope="module")
def told(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Six units that all begin before any has landed."""
    site = make_site(
        tmp_path_factory.mktemp("landing"),
        api_url=prefect_address.api_url,
        check=CHECK + CLASH,
        files={"CHANGES.md": "# Changes\n", "shared.txt": "one\ntwo\nthree\n"},
        backend={"slots": 6},
        landing={"union": ["CHANGES.md"]},
    )
    names = ("line-a", "line-b", "left", "right", "note-a", "note-b")
    all_here = f"[ $(ls $NOTES | grep -c up-) -ge {len(names)} ]"
    gate = f"touch $NOTES/up-$MISSION_UNIT_ID; until {all_here}; do sleep .05; done"
    keep = 'cat > "$NOTES/$MISSION_UNIT_ID.$MISSION_ATTEMPT"'
    work = {
        "line-a": "sed -i 2s/.*/TWO/ shared.txt",
        "line-b": "sed -i 2s/.*/zwei/ shared.txt",
        "left": "[ $MISSION_ATTEMPT = 1 ] && touch left.txt || touch other.txt",
        "right": "[ $MISSION_ATTEMPT = 1 ] && touch right.txt || touch other.txt",
        "note-a": "echo '- by a' >> CHANGES.md",
        "note-b": "echo '- by b' >> CHANGES.md",
    }
    write_plan(site, *(unit(n, f"{keep}; {gate}; {work[n]}") for n in names))
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 0, ran.out + ran.err
    return Told(site=site, records=ledger(site))


def test_all_of_it_lands_in_the_end(told: Told) -> None:
    assert {*statuses(told.records).values()} == {"landed"}
    assert_promises(told.site)


def test_a_conflict_is_retried_with_the_hunks_in_the_prompt(told: Told) -> None:
    lines = {n: outcomes(told.records, n) for n in ("line-a", "line-b")}
    assert sorted(map(len, lines.values())) == [1, 2]
    (loser,) = (name for name, tries in lines.items() if len(tries) > 1)
    prompt = told.site.note(f"{loser}.2")
    assert "shared.txt" in prompt
    assert "<<<<<<< what landed" in prompt
    assert ">>>>>>> your change" in prompt
    assert events(told.records, "attempt.ended", unit=loser)[0]["outcome"] == "collected"


def test_of_a_bad_pair_one_lands_and_the_other_is_told_of_it(told: Told) -> None:
    (clash,) = events(told.records, "candidate.clashed")
    pair = {clash["unit"], clash["partner"]}
    assert pair == {"left", "right"}
    prompt = told.site.note(f"{clash['unit']}.2")
    assert f"`{clash['partner']}`, which landed meanwhile" in prompt
    assert "left and right clash" in prompt
    assert not events(told.records, "candidate.ejected")


def test_files_that_are_named_for_it_keep_both_sides(told: Told) -> None:
    text = on_green(told.site, "CHANGES.md")
    assert text is not None
    assert sorted(text.splitlines()) == ["# Changes", "- by a", "- by b"]
    assert len(outcomes(told.records, "note-a") + outcomes(told.records, "note-b")) == 2


def test_commits_between_two_values_of_green_say_with_which_they_were_verified(
    told: Told,
) -> None:
    target = told.site.target
    values = {r["new"] for r in events(told.records, "landed")}
    log = git(target, "log", "--format=%H", "--first-parent", f"main..{GREEN}").split()
    between = [commit for commit in log if commit not in values]
    assert between, "several landed together"
    for commit in between:
        note = git(target, "log", "-1", "--notes=missions/*", "--format=%N", commit)
        assert any(value in note for value in values)
