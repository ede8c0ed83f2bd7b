"""Refused work and fix-up agents: what is mended lands, what is not leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    Record,
    Site,
    assert_promises,
    commit_files,
    events,
    git,
    ledger,
    make_site,
    mission,
    on_green,
    outcomes,
    statuses,
    unit,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server

MENDER = ["sh", "-c", "cat > $NOTES/asked; sed -i s/BROKEN/mended/ *.txt"]


def site_with_fixer(
    folder: Path, address: ServerAddress, argv: list[str], *, limits: dict[str, int], **fixup: int
) -> Site:
    return make_site(
        folder,
        api_url=address.api_url,
        agents={"fixer": {"argv": argv}},
        fixup={"agent": "fixer", **fixup},
        limits=limits,
    )


def kinds(records: list[Record]) -> list[str]:
    return [r["kind"] for r in events(records, "probe.started")]


def test_refused_work_is_mended_from_where_it_was_and_lands_as_one_commit(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = site_with_fixer(tmp_path, prefect_address, MENDER, limits={"max_attempts": 1})
    write_plan(
        site,
        unit("bad", "echo BROKEN > bad.txt; echo kept > kept.txt", writes=["bad.txt", "kept.txt"]),
        unit("good", write("good.txt")),
        unit("after", "cat bad.txt > after.txt", depends_on=["bad"]),
    )
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 0, ran.err
    records = ledger(site)
    assert statuses(records) == {"bad": "landed", "good": "landed", "after": "landed"}
    assert on_green(site, "bad.txt") == "mended"
    assert on_green(site, "kept.txt") == "kept"
    assert on_green(site, "after.txt") == "mended"
    assert outcomes(records, "bad") == ["collected"], "no second attempt was needed"
    asked = site.note("asked")
    assert "bad.txt is broken" in asked, "the fixer is shown what was red"
    assert "- kept.txt" in asked, "and what it may write"
    subjects = git(site.target, "log", "--format=%s", "mission/green").splitlines()
    assert subjects.count("Do bad") == 1
    assert_promises(site)


def test_a_useless_fixer_changes_nothing_and_the_rest_lands_in_few_runs(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = site_with_fixer(
        tmp_path,
        prefect_address,
        ["sh", "-c", "echo asked >> $NOTES/asked"],
        limits={"max_attempts": 1},
        attempts=2,
    )
    names = [f"u{i}" for i in range(10)]
    text = {name: "BROKEN" if name == "u4" else "fine" for name in names}
    together = "until [ $(ls $NOTES | grep -c up) -ge 4 ] || [ $n -gt 200 ]"
    gate = f"n=0; {together}; do sleep .05; n=$((n+1)); done"
    write_plan(
        site,
        *(unit(n, f"touch $NOTES/up-{n}; {gate}; {write(f'{n}.txt', text[n])}") for n in names),
    )
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 1
    records = ledger(site)
    landed = [name for name, status in statuses(records).items() if status == "landed"]
    assert sorted(landed) == [n for n in names if n != "u4"]
    assert statuses(records)["u4"] == "failed"
    assert site.note("asked") == "asked\nasked\n"
    assert len(events(records, "repair.ended", winner="")) == 2
    assert "repair" not in kinds(records), "what nobody changed is not verified again"
    assert_promises(site)


def test_of_several_repairs_the_smallest_that_passes_goes_on(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    script = """
case $MISSION_UNIT_ID in
    *.1) echo BROKEN still > bad.txt;;
    *.2) seq 50 > bad.txt;;
    *.3) echo small > bad.txt;;
esac
"""
    site = site_with_fixer(
        tmp_path,
        prefect_address,
        ["sh", "-c", script],
        limits={"max_attempts": 1},
        candidates=3,
    )
    write_plan(site, unit("bad", write("bad.txt", "BROKEN")))
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 0, ran.err
    records = ledger(site)
    assert on_green(site, "bad.txt") == "small"
    (ended,) = events(records, "repair.ended")
    assert ended["winner"].endswith(".3")
    assert "2 of 3 pass" in ended["reason"]
    assert kinds(records).count("repair") == 3
    assert_promises(site)


def test_a_red_base_is_repaired_before_any_other_unit_starts(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = site_with_fixer(tmp_path, prefect_address, MENDER, limits={"max_attempts": 1})
    commit_files(site.target, {"old.txt": "BROKEN\n"}, "a red base")
    write_plan(site, unit("next", "cp old.txt next.txt"))
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 0, ran.out + ran.err
    records = ledger(site)
    assert statuses(records) == {"repair-base": "landed", "next": "landed"}
    assert on_green(site, "next.txt") == "mended"
    first = events(records, "landed")[0]
    assert (first["old"], first["units"]) == (None, ["repair-base"])
    assert "old.txt is broken" in site.note("asked")
    assert_promises(site)


def test_a_red_base_that_nobody_can_mend_is_wrong_input(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = site_with_fixer(
        tmp_path, prefect_address, ["true"], limits={"max_attempts": 1}, attempts=1
    )
    commit_files(site.target, {"old.txt": "BROKEN\n"}, "a red base")
    write_plan(site, unit("next", write("next.txt")))
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 2
    assert "could not be repaired" in ran.out + ran.err
    assert not events(ledger(site), "landed")
