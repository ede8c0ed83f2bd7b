"""The checker of promises sees each promise broken: a whole mission, tampered with afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    GREEN,
    Record,
    Site,
    assert_promises,
    events,
    git,
    integration_repository,
    ledger,
    make_site,
    mission,
    missions_of,
    unit,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server


@pytest.fixture(scope="module")
def whole(prefect_address: ServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A mission of two dependent units and a bad one, with nothing wrong."""
    site = make_site(tmp_path_factory.mktemp("whole"), api_url=prefect_address.api_url)
    write_plan(
        site,
        unit("a", write("a.txt")),
        unit("b", "cat a.txt > b.txt", depends_on=["a"]),
        unit("bad", write("bad.txt", "BROKEN")),
    )
    assert mission(site).code == 1
    assert_promises(site)
    return site


def landing(records: list[Record], name: str) -> Record:
    """The landing of a unit."""
    (found,) = [r for r in events(records, "landed") if name in r["units"]]
    return found


def _landed_what_was_red(records: list[Record]) -> None:
    probe = landing(records, "b")["probe"]
    events(records, "probe.ended", probe=probe)[0]["verdict"] = "red"


def _landed_another_tree(records: list[Record]) -> None:
    probe = landing(records, "b")["probe"]
    events(records, "probe.started", probe=probe)[0]["tree"] = landing(records, "a")["tree"]


def _landed_before_the_verdict(records: list[Record]) -> None:
    probe = landing(records, "b")["probe"]
    verdict = events(records, "probe.ended", probe=probe)[0]
    records.remove(verdict)
    records.insert(records.index(landing(records, "b")) + 1, verdict)


def _without_intent(records: list[Record]) -> None:
    records.remove(events(records, "landing.intended")[-1])


def _landed_twice(records: list[Record]) -> None:
    landing(records, "b")["units"].append("a")
    events(records, "landing.intended")[-1]["units"].append("a")


def _skipped_a_value(records: list[Record]) -> None:
    landing(records, "b")["old"] = landing(records, "b")["new"]
    events(records, "landing.intended")[-1]["old"] = landing(records, "b")["new"]


def _lost_a_head(records: list[Record]) -> None:
    events(records, "attempt.ended", unit="bad")[0]["head"] = landing(records, "a")["new"]


def _ejected_what_landed(records: list[Record]) -> None:
    what = {"type": "candidate.ejected", "unit": "a", "attempt": 1, "probe": 1, "reason": ""}
    records.insert(-1, {"at": 0.0, **what})


def _started_too_early(records: list[Record]) -> None:
    start = events(records, "attempt.started", unit="b")[0]
    end = events(records, "attempt.ended", unit="b")[0]
    first = records.index(events(records, "attempt.started", unit="a")[0])
    for record in (end, start):
        records.remove(record)
        records.insert(first, record)


def _ran_twice_at_once(records: list[Record]) -> None:
    start = events(records, "attempt.started", unit="a")[0]
    records.insert(records.index(start), {**start, "attempt": 0})


def _forgot_a_probe(records: list[Record]) -> None:
    started = events(records, "probe.started")[0]
    records.insert(-1, {**started, "probe": 99})


def _miscounted(records: list[Record]) -> None:
    records[-1]["counts"]["landed"] = 3


TAMPERED: list[Callable[[list[Record]], None]] = [
    _landed_what_was_red,
    _landed_another_tree,
    _landed_before_the_verdict,
    _without_intent,
    _landed_twice,
    _skipped_a_value,
    _lost_a_head,
    _ejected_what_landed,
    _started_too_early,
    _ran_twice_at_once,
    _forgot_a_probe,
    _miscounted,
]


def copied(whole: Site, folder: Path) -> Site:
    """The same mission in a copy of its home."""
    home = folder / "home"
    for part in ("missions", "repositories"):
        shutil.copytree(whole.home / part, home / part)
    return replace(whole, home=home)


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__.strip("_"))
def test_a_ledger_that_tells_of_a_broken_promise_is_found(
    whole: Site, tmp_path: Path, tamper: Callable[[list[Record]], None]
) -> None:
    site = copied(whole, tmp_path)
    records = ledger(site)
    tamper(records)
    lines = [json.dumps({**r, "seq": seq}) for seq, r in enumerate(records, start=1)]
    path = site.home / "missions" / missions_of(site)[0] / "ledger.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AssertionError):
        assert_promises(site)


@pytest.mark.parametrize("moved", ["green moved back", "a head was lost"])
def test_a_repository_that_broke_a_promise_is_found(
    whole: Site, tmp_path: Path, moved: str
) -> None:
    site = copied(whole, tmp_path)
    assert_promises(site)
    repository = integration_repository(site)
    if moved == "green moved back":
        git(repository, "update-ref", f"refs/heads/{GREEN}", f"{GREEN}~1")
    else:
        git(repository, "update-ref", "-d", f"refs/missions/{missions_of(site)[0]}/bad/1")
    with pytest.raises(AssertionError):
        assert_promises(site)
