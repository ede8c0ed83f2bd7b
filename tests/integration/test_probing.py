"""Probes on real trees: what one leaves behind is what the next is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.places.local import LocalPlace
from blocks.repository import IntegrationRepository
from flows.landing.probing import ProbeOrder, run_probe
from flows.running.bench import Bench
from flows.settings_sources import load_settings
from tests.missions import commit_files, make_repository

FILE = """
name = "m"
[repository]
url = "."
[plan]
planner = "tidy"
[verify]
command = "python3 -m unittest"
"""
TESTS = """
import unittest
class T(unittest.TestCase):
    def test_one(self): pass
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_repository(
        tmp_path / "target", {"test_a.py": TESTS + "    def test_two(self): pass\n"}
    )


@pytest.fixture
def bench(tmp_path: Path, target: Path) -> Iterator[Bench]:
    commit_files(target, {"test_a.py": TESTS}, "Remove a test")
    (tmp_path / "mission.toml").write_text(FILE)
    (tmp_path / "m1").mkdir()
    repository = IntegrationRepository(tmp_path / "store.git")
    repository.fetch(str(target), ["main"])
    yield Bench(
        mission="m1",
        folder=tmp_path / "m1",
        repository=repository,
        places={"local": LocalPlace(tmp_path / "place")},
        settings=load_settings(tmp_path / "mission.toml", env={}),
        key="target-green",
    )
    repository.close()


def test_fewer_tests_are_red_where_only_the_output_counts_them(bench: Bench) -> None:
    tip = "refs/target/main"
    before, after = (bench.repository.resolve(name) for name in (f"{tip}~1", tip))
    assert before
    assert after
    order = ProbeOrder(probe=1, commit=before, place="local", slot=0, baseline=None)
    green = run_probe(order, bench)
    assert (green.verdict, green.reason) == ("passed", "2 tests passed")
    fewer = run_probe(replace(order, probe=2, commit=after, baseline=green.reading), bench)
    assert fewer.verdict == "red"
    assert "1 test collected where green has 2" in fewer.reason
