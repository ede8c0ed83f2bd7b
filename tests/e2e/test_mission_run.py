"""Whole missions by the `mission` command: what lands, what does not, and what is said about it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    CHECK,
    COMMIT,
    GREEN,
    Ran,
    Record,
    Site,
    assert_promises,
    events,
    git,
    held_by,
    integration_repository,
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

FLAKES_ONCE = f"""\
{CHECK}
if [ -f flaky.txt ] && [ ! -e "$NOTES/flaked" ]; then touch "$NOTES/flaked"; exit 1; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A mission that has ended."""

    site: Site
    ran: Ran
    records: list[Record]


# -- good and bad units in one plan --------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A plan in which some land, some land later, and some never do; run with `--json`."""
    site = make_site(
        tmp_path_factory.mktemp("mixed"),
        api_url=prefect_address.api_url,
        check=FLAKES_ONCE,
        verify={"slots": 2},
    )
    learns = "cat >> $NOTES/prompts; if [ {attempt} = 1 ]; then echo BROKEN; else echo good; fi"
    write_plan(
        site,
        unit("first", write("first.txt")),
        unit("second", "cat first.txt > second.txt", depends_on=["first"]),
        unit("learner", f"({learns}) > learner.txt", prompt="Write something good."),
        unit("breaker", write("breaker.txt", "BROKEN")),
        unit("stuck", "touch $NOTES/stuck", depends_on=["first", "breaker"]),
        unit("stuck-too", "touch $NOTES/stuck", depends_on=["stuck"]),
        unit("flaky", write("flaky.txt")),
    )
    ran = mission(site, "run", str(site.mission_file), "--json")
    return Told(site=site, ran=ran, records=ledger(site))


def test_what_was_promised_holds_with_good_and_bad_units(mixed: Told) -> None:
    assert_promises(mixed.site)


def test_a_dependent_starts_from_green_that_holds_what_it_depends_on(mixed: Told) -> None:
    assert on_green(mixed.site, "second.txt") == "done"
    (landed,) = [r for r in events(mixed.records, "landed") if "first" in r["units"]]
    (attempt,) = events(mixed.records, "attempt.started", unit="second")
    assert attempt["seq"] > landed["seq"]
    git(mixed.site.target, "merge-base", "--is-ancestor", landed["new"], attempt["base"])


def test_a_landed_commit_names_mission_unit_attempt_and_agent(mixed: Told) -> None:
    started = mixed.records[0]
    message = git(mixed.site.target, "log", "--format=%B", "--grep=Unit: second", GREEN)
    assert message == "\n".join(
        [
            "Do second",
            "",
            f"Mission: {started['mission']}",
            "Unit: second",
            "Attempt: 1",
            "Agent: default",
        ]
    )


def test_a_unit_that_breaks_the_tests_is_refused_after_it_was_red_twice(mixed: Told) -> None:
    """Once in company, once on its own base or on the same tree."""
    assert statuses(mixed.records)["breaker"] == "failed"
    heads = {r["tree"] for r in events(mixed.records, "attempt.ended", unit="breaker")}
    trees = {r["probe"]: r["tree"] for r in events(mixed.records, "probe.started")}
    verdicts = {r["probe"]: r["verdict"] for r in events(mixed.records, "probe.ended")}
    asides = events(mixed.records, "culprit.set_aside", unit="breaker")
    for aside, ejected in zip(
        asides, events(mixed.records, "candidate.ejected", unit="breaker"), strict=True
    ):
        assert aside["probe"] != ejected["probe"]
        assert trees[aside["probe"]] == aside["tree"]
        assert trees[ejected["probe"]] in {aside["tree"], *heads}
        assert verdicts[aside["probe"]] == verdicts[ejected["probe"]] == "red"
    assert len(events(mixed.records, "candidate.ejected", unit="breaker")) == 2


def test_a_refused_unit_is_tried_again_with_the_cause_in_its_prompt(mixed: Told) -> None:
    first, second = mixed.site.note("prompts").split("# Do learner")[1:]
    assert first.strip().startswith("Write something good.\n\n## Where you may write\n")
    assert "did not land" not in first
    assert "did not land" in second
    assert "rejected" in second
    assert "learner.txt is broken" in second
    assert on_green(mixed.site, "learner.txt") is not None
    assert "BROKEN" not in (on_green(mixed.site, "learner.txt") or "")


def test_dependents_of_a_failed_unit_are_blocked_and_use_up_nothing(mixed: Told) -> None:
    ends = statuses(mixed.records)
    assert (ends["stuck"], ends["stuck-too"]) == ("blocked", "blocked")
    assert not mixed.site.note("stuck")
    for name in ("stuck", "stuck-too"):
        assert not events(mixed.records, "attempt.started", unit=name)


def test_a_tree_that_is_red_and_then_green_is_a_flake_and_its_unit_lands(mixed: Told) -> None:
    (flake,) = events(mixed.records, "flake.seen")  # whoever was in the stack may be suspected
    assert statuses(mixed.records)[flake["unit"]] == "landed"
    assert statuses(mixed.records)["flaky"] == "landed"
    assert outcomes(mixed.records, "flaky") == ["collected"]


def test_with_json_each_line_is_an_event_and_the_last_tells_how_it_ended(mixed: Told) -> None:
    told = [json.loads(line) for line in mixed.ran.out.splitlines()]
    assert told == mixed.records
    last = told[-1]
    assert last["type"] == "mission.finished"
    assert last["counts"] == {"landed": 4, "failed": 1, "blocked": 2}
    assert last["stop_reason"] == "nothing left to do"
    assert last["green"] == git(mixed.site.target, "rev-parse", GREEN)
    assert last["seconds"] > 0
    assert "cost_usd" in last


def test_units_that_did_not_land_make_exit_code_1(mixed: Told) -> None:
    assert mixed.ran.code == 1
    assert mixed.records[-1]["exit_code"] == 1
    assert "Traceback" not in mixed.ran.text


def test_the_targets_own_branch_and_checkout_are_untouched(mixed: Told) -> None:
    target = mixed.site.target
    assert git(target, "rev-parse", "main") == mixed.records[0]["base"]
    assert git(target, "status", "--porcelain", "--ignored") == ""
    refs = git(target, "for-each-ref", "--format=%(refname)").split()
    notes = [ref for ref in refs if ref.startswith("refs/notes/missions/")]
    assert sorted({*refs} - {*notes}) == ["refs/heads/main", f"refs/heads/{GREEN}"]


# -- conflicts -----------------------------------------------------------------------------------


def test_of_two_units_that_edit_one_line_the_second_is_retried_on_the_new_base_and_lands(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    meet = "touch $NOTES/{unit_id}; " + held_by(site.notes / "left") + "; "
    meet += held_by(site.notes / "right")
    write_plan(
        site,
        unit("left", f"{meet}; echo left >> shared.txt; {COMMIT}"),
        unit("right", f"{meet}; cat > $NOTES/right-{{attempt}}; echo right >> shared.txt"),
    )
    ran = mission(site)
    records = ledger(site)
    assert ran.code == 0, ran.text
    assert_promises(site)
    conflicted = events(records, "candidate.conflicted")
    assert conflicted[-1]["files"] == ["shared.txt"]
    loser = conflicted[-1]["unit"]
    bases = [r["base"] for r in events(records, "attempt.started", unit=loser)]
    assert len(bases) == 2
    assert len({*bases}) == 2
    assert sorted((on_green(site, "shared.txt") or "").splitlines()) == ["left", "one", "right"]
    if loser == "right":
        assert "shared.txt" in site.note("right-2")


# -- a target with real tests --------------------------------------------------------------------

FLAKY_TEST = """\
import os, pathlib, time

notes = pathlib.Path(os.environ["NOTES"])

def test_flaky():
    if (notes / "flaked").exists() or not pathlib.Path("marker.txt").exists():
        return
    (notes / "judging").touch()
    while not (notes / "meanwhile").exists():
        time.sleep(0.01)
    time.sleep(0.5)  # until it is collected as well
    (notes / "flaked").touch()
    raise AssertionError("not today")
"""
"""Fails once beside the marker, when another unit that adds tests is about to be collected."""


@pytest.fixture(scope="module")
def tested(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A target that pytest verifies, and units that remove tests."""
    two_tests = "def test_one():\n    assert 1\n\n\ndef test_two():\n    assert 2\n"
    site = make_site(
        tmp_path_factory.mktemp("tested"),
        api_url=prefect_address.api_url,
        files={
            "test_a.py": two_tests,
            "test_b.py": two_tests,
            "test_c.py": two_tests,
            "test_flaky.py": FLAKY_TEST,
        },
        environment={"path": [str(Path(sys.executable).parent)]},
        verify={"command": "python3 -m pytest -q"},
        limits={"max_attempts": 1},
    )
    judging, one_done = site.notes / "judging", site.notes / "one-done"
    meanwhile = "cp test_b.py test_meanwhile.py; touch $NOTES/meanwhile"
    skips = "sed -i '1i import pytest\\n@pytest.mark.skip' test_b.py"
    adds = "printf 'def test_new():\\n    assert 3\\n' > test_d.py"
    write_plan(
        site,
        unit("flakes", write("marker.txt")),
        unit("meanwhile", f"{held_by(judging)}; {meanwhile}"),
        unit("skips", f"{skips}; touch {one_done}", depends_on=["flakes"]),
        # Collected while `skips` is probed, these two are then probed together.
        unit("deletes", f"{held_by(one_done)}; rm test_a.py", depends_on=["flakes"]),
        unit(
            "may-delete",
            f"{held_by(one_done)}; rm test_c.py",
            may_remove_tests=True,
            depends_on=["flakes"],
        ),
        unit("adds", adds, depends_on=["may-delete"]),
    )
    return Told(site=site, ran=mission(site), records=ledger(site))


def test_what_was_promised_holds_with_a_tested_target(tested: Told) -> None:
    assert_promises(tested.site, rerun=slice(-1, None))
    assert tested.ran.code == 1, tested.ran.text


def test_a_unit_that_deletes_tests_is_refused_with_the_tests_named(tested: Told) -> None:
    (ejected,) = events(tested.records, "candidate.ejected", unit="deletes")
    assert "2 tests" in ejected["reason"]
    assert "test_a" in ejected["reason"]
    assert on_green(tested.site, "test_a.py") is not None


def test_a_unit_that_skips_a_test_is_refused(tested: Told) -> None:
    (ejected,) = events(tested.records, "candidate.ejected", unit="skips")
    assert "skipped" in ejected["reason"]
    assert "skip" not in (on_green(tested.site, "test_b.py") or "")


def test_a_unit_that_may_remove_tests_lands_and_green_has_fewer_from_then_on(tested: Told) -> None:
    ends = statuses(tested.records)
    assert (ends["may-delete"], ends["adds"]) == ("landed", "landed")
    assert on_green(tested.site, "test_c.py") is None
    last = events(tested.records, "landed")[-1]
    (probed,) = events(tested.records, "probe.ended", probe=last["probe"])
    assert probed["tests"]["collected"] == sum((2, 2, 2, 1, 1))


def test_tests_that_landed_after_a_flake_are_not_missing_in_its_tree(tested: Told) -> None:
    assert events(tested.records, "flake.seen", unit="flakes")
    ends = statuses(tested.records)
    assert (ends["flakes"], ends["meanwhile"]) == ("landed", "landed")


def test_the_integration_repository_is_one_bare_clone_per_target(tested: Told) -> None:
    assert git(integration_repository(tested.site), "rev-parse", "--is-bare-repository") == "true"
