"""The kept passes: what is found is what was put, whatever happened to the files meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from blocks.readings import Finding, Reading
from blocks.verifier import regression
from flows.landing.passes import Pass, Passes, pass_of
from flows.ledger.events import ProbeEnded
from tests.missions import wait_until

TREE, OTHER_TREE = "a" * 40, "b" * 40
DIGEST, OTHER_DIGEST = "c" * 64, "d" * 64
NOW = 1_700_000_000.0

FINDING = Finding(rule="S101", path="a.py", line=3, level="note", kind="security", message="é")
READING = Reading(
    tests={"t.test_a::test_one": "passed", "t.test_a::test_two[é\udcff]": "skipped"},
    findings=(FINDING,),
    coverage=0.875,
    sources=("junit",),
    counts={"passed": 1, "skipped": 1},
)


def passed(tree: str = TREE, digest: str = DIGEST, at: float = NOW, **others: Any) -> Pass:
    values: dict[str, Any] = {
        "mission": "m1",
        "probe": 7,
        "reading": READING,
        "reason": "1 test passed, 1 skipped",
        "tests": {"collected": 2, "passed": 1},
        "findings": {"security": 1},
        "coverage": 0.875,
        "seconds": 12.5,
    }
    return Pass(tree=tree, digest=digest, at=at, **{**values, **others})


@pytest.fixture
def passes(tmp_path: Path) -> Passes:
    return Passes.beside(tmp_path / "repositories" / "acme.js-0123.git")


def test_a_pass_is_found_again_as_it_was(passes: Passes) -> None:
    assert passes.put(passed())
    assert passes.find(TREE, DIGEST, NOW + 1) == passed()
    assert passes.folder.name == "acme.js-0123.passes"


def test_only_the_same_tree_in_the_same_environment_has_passed(passes: Passes) -> None:
    passes.put(passed())
    assert passes.find(OTHER_TREE, DIGEST, NOW) is None
    assert passes.find(TREE, OTHER_DIGEST, NOW) is None
    assert passes.find(TREE, "", NOW) is None


def test_a_pass_gets_too_old_and_one_from_the_future_does_not_count(passes: Passes) -> None:
    passes.put(passed())
    assert passes.find(TREE, DIGEST, NOW + passes.max_age_seconds)
    assert passes.find(TREE, DIGEST, NOW + passes.max_age_seconds + 1) is None
    assert passes.find(TREE, DIGEST, NOW - 1) is None


def test_what_has_no_environment_is_not_kept(passes: Passes) -> None:
    assert not passes.put(passed(digest=""))
    assert not passes.put(passed(tree="../../x"))
    assert not passes.folder.exists()


def test_a_file_under_another_name_is_no_pass(passes: Passes) -> None:
    passes.put(passed())
    (file,) = passes.folder.iterdir()
    for tree, digest in ((OTHER_TREE, DIGEST), (TREE, OTHER_DIGEST)):
        (passes.folder / file.name.replace(TREE, tree).replace(DIGEST, digest)).write_bytes(
            file.read_bytes()
        )
        assert passes.find(tree, digest, NOW) is None


def test_an_entry_that_is_cut_off_anywhere_or_altered_is_no_pass(passes: Passes) -> None:
    passes.put(passed(reading=Reading(), reason=""))
    (file,) = passes.folder.iterdir()
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert passes.find(TREE, DIGEST, NOW) is None
    file.write_bytes(whole.replace(b'"probe":7', b'"probe":8'))
    assert passes.find(TREE, DIGEST, NOW) is None
    file.write_bytes(whole)
    assert passes.find(TREE, DIGEST, NOW)


def test_the_oldest_go_when_there_are_too_many(passes: Passes) -> None:
    few = replace(passes, max_entries=2)
    for number in range(4):
        few.put(passed(tree=f"{number:040x}", at=NOW + (number if number != 3 else 0.5)))
    kept = [n for n in range(4) if few.find(f"{n:040x}", DIGEST, NOW + 9)]
    assert kept == [1, 2]
    assert len([*few.folder.iterdir()]) == 2


def test_the_oldest_go_when_they_take_too_much_room(passes: Passes) -> None:
    reading = Reading(tests={f"t::{n}": "passed" for n in range(1_000)})
    small = replace(passes, max_bytes=20_000)
    for number in range(5):
        assert small.put(passed(tree=f"{number:040x}", at=NOW + number, reading=reading))
    assert sum(file.stat().st_size for file in small.folder.iterdir()) <= 20_000
    assert small.find(f"{4:040x}", DIGEST, NOW + 9)
    assert not small.find(f"{0:040x}", DIGEST, NOW + 9)
    assert not replace(passes, max_bytes=2_000).put(passed(reading=reading))


def test_one_from_the_far_future_is_removed_and_not_the_new_ones(passes: Passes) -> None:
    few = replace(passes, max_entries=1)
    few.put(passed(tree=OTHER_TREE, at=NOW + 1e6))
    few.put(passed())
    assert few.find(TREE, DIGEST, NOW)
    assert len([*few.folder.iterdir()]) == 1


def test_too_old_ones_and_what_a_dead_writer_left_are_removed(passes: Passes) -> None:
    passes.put(passed())
    (passes.folder / ".draft-0").write_bytes(b"half")
    os.utime(passes.folder / ".draft-0", (NOW, NOW))
    later = NOW + passes.max_age_seconds + 1
    passes.put(passed(tree=OTHER_TREE, at=later))
    assert [file.name[:40] for file in passes.folder.iterdir()] == [OTHER_TREE]


def test_a_folder_that_cannot_be_had_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "acme.passes").write_text("in the way")
    passes = Passes.beside(tmp_path / "acme.git")
    assert not passes.put(passed())
    assert passes.find(TREE, DIGEST, NOW) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_no_error_and_leaves_nothing_behind(small_disk: Path) -> None:
    passes = Passes(folder=small_disk / "acme.passes")
    assert passes.put(passed())
    large = Reading(tests={f"t::{n}": "passed" for n in range(20_000)})
    assert not passes.put(passed(tree=OTHER_TREE, reading=large))
    assert passes.find(OTHER_TREE, DIGEST, NOW) is None
    assert passes.find(TREE, DIGEST, NOW) == passed()
    assert len([*passes.folder.iterdir()]) == 1


WRITER = """
import sys
from pathlib import Path
from blocks.readings import Reading
from flows.landing.passes import Pass, Passes
passes, number = Passes(folder=Path(sys.argv[1]), max_entries=30), 0
reading = Reading(tests={f"t::{n}": "passed" for n in range(2_000)})
while True:
    number += 1
    passes.put(Pass(tree=f"{number % 50:040x}", digest="c" * 64, at=1e9, mission=sys.argv[2],
                    probe=number, reading=reading))
    print(number, flush=True)
"""


def test_writers_that_are_killed_at_work_leave_only_whole_passes(tmp_path: Path) -> None:
    folder = tmp_path / "acme.passes"
    writers = []
    for name in ("m1", "m2", "m3"):
        with (tmp_path / name).open("wb") as said:
            argv = [sys.executable, "-c", WRITER, str(folder), name]
            writers.append(subprocess.Popen(argv, stdout=said, cwd=Path(__file__).parents[2]))
    try:
        wait_until(lambda: all((tmp_path / n).read_text().count("\n") > 60 for n in ("m1", "m2")))
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait()
    found = [Passes(folder=folder).find(f"{n:040x}", "c" * 64, 1e9) for n in range(50)]
    assert len([*filter(None, found)]) >= 25
    for number, one in enumerate(found):
        assert one is None or one.probe % 50 == number
        assert one is None or (one.tree, one.reading.n_passed) == (f"{number:040x}", 2_000)


def test_threads_that_put_find_and_prune_at_once_do_not_disturb_each_other(passes: Passes) -> None:
    few = replace(passes, max_entries=5)

    def work(number: int) -> bool:
        tree = f"{number % 10:040x}"
        kept, found = few.put(passed(tree=tree)), few.find(tree, DIGEST, NOW)
        return kept and (found is None or found == passed(tree=tree))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


# -- what may be kept -------------------------------------------------------------------------

ENDED = ProbeEnded(probe=7, verdict="passed", exit_code=0, reason="2 tests passed", seconds=3.0)


def kept(ended: ProbeEnded, reading: Reading = READING) -> Pass | None:
    return pass_of(ended, reading, tree=TREE, digest=DIGEST, at=NOW, mission="m1")


def test_a_pass_is_kept_with_the_facts_of_its_probe_and_tells_them_again() -> None:
    facts: dict[str, Any] = {"tests": {"collected": 2}, "findings": {"lint": 1}, "coverage": 0.5}
    found = kept(replace(ENDED, **facts))
    assert found is not None
    again = found.ended(probe=1, place="local", reading="readings/1.json")
    assert (again.verdict, again.exit_code, again.cached) == ("passed", 0, True)
    assert again.reason == "2 tests passed (in probe 7 of m1)"
    assert {name: getattr(again, name) for name in facts} == facts
    assert (again.probe, again.place, again.reading) == (1, "local", "readings/1.json")


@pytest.mark.parametrize(
    "ended",
    [
        replace(ENDED, verdict="red"),
        replace(ENDED, verdict="not a run"),
        replace(ENDED, verdict="cancelled"),
        replace(ENDED, exit_code=1),
        replace(ENDED, exit_code=None),
        replace(ENDED, cached=True),
    ],
)
def test_what_is_no_pass_or_only_a_cached_one_is_not_kept(ended: ProbeEnded) -> None:
    assert kept(ended) is None


@pytest.mark.parametrize(
    "reading",
    [
        Reading(tests={"a": "passed", "b": "failed"}),
        Reading(tests={"a": "passed", "b": "error"}),
        Reading(tests={"a": "passed"}, counts={"passed": 2, "failed": 1}),
    ],
)
def test_a_pass_that_leans_on_a_red_base_is_not_kept(reading: Reading) -> None:
    assert kept(ENDED, reading) is None


def test_a_found_pass_is_judged_against_the_green_of_today(passes: Passes) -> None:
    passes.put(passed())
    found = passes.find(TREE, DIGEST, NOW)
    assert found is not None
    assert not regression(found.reading, None, False)
    assert not regression(found.reading, READING, False)
    grown = replace(READING, tests={**(READING.tests or {}), "t.test_b::test_new": "passed"})
    assert "test_new" in regression(found.reading, grown, False)
    assert not regression(found.reading, grown, True)
    assert "security" in regression(found.reading, replace(READING, findings=()), True)


# -- a model ----------------------------------------------------------------------------------

trees = st.sampled_from([f"{number:040x}" for number in range(4)])
digests = st.sampled_from([f"{number:064x}" for number in range(3)])


class PassesModel(RuleBasedStateMachine):
    """Puts, finds, time, crashes and damage: a pass that is found was put, last and lately."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.passes = Passes(
            folder=Path(self._folder.name) / "x.passes", max_age_seconds=100, max_entries=6
        )
        self.now, self.number = NOW, 0
        self.put: dict[tuple[str, str], Pass] = {}

    def teardown(self) -> None:
        self._folder.cleanup()

    @rule(tree=trees, digest=digests)
    def keeps(self, tree: str, digest: str) -> None:
        self.number += 1
        one = passed(tree, digest, self.now, probe=self.number)
        assert self.passes.put(one)
        self.put[tree, digest] = one
        # When the clock was set back, what was put before is newer, and this the first to go.
        is_full = len(self._files()) == self.passes.max_entries
        assert self.passes.find(tree, digest, self.now) == one or is_full
        assert len(self._files()) <= self.passes.max_entries

    @rule(tree=trees, digest=digests)
    def finds(self, tree: str, digest: str) -> None:
        found, last = self.passes.find(tree, digest, self.now), self.put.get((tree, digest))
        assert found is None or found == last
        assert found is None or 0 <= self.now - found.at <= 100

    @rule(seconds=st.floats(-20, 60))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def a_file_is_cut_off(self, data: st.DataObject) -> None:
        if file := self._one(data):
            content = file.read_bytes()
            file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])

    @rule(data=st.data(), junk=st.binary(min_size=1, max_size=20))
    def a_file_is_written_over(self, data: st.DataObject, junk: bytes) -> None:
        if file := self._one(data):
            content = file.read_bytes()
            at = data.draw(st.integers(0, len(content)))
            file.write_bytes(content[:at] + junk + content[at + len(junk) :])

    @rule(data=st.data(), tree=trees, digest=digests)
    def a_file_is_put_in_anothers_place(self, data: st.DataObject, tree: str, digest: str) -> None:
        if (file := self._one(data)) and (tree, digest) not in self.put:
            (file.parent / f"{tree}-{digest}.pass").write_bytes(file.read_bytes())

    @rule(n_bytes=st.integers(0, 40))
    def a_writer_dies(self, n_bytes: int) -> None:
        self.passes.folder.mkdir(exist_ok=True)
        (self.passes.folder / f".draft-{n_bytes}").write_bytes(b"x" * n_bytes)

    @rule()
    def everything_is_deleted(self) -> None:
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.passes.folder.glob("*.pass"))

    def _one(self, data: st.DataObject) -> Path | None:
        files = [file for file in self._files() if file.stat().st_size]
        return data.draw(st.sampled_from(files)) if files else None


PassesModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestPassesModel = PassesModel.TestCase
