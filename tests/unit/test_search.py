"""Lines of candidates: what is known of their prefixes, and which of them to probe next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flows.landing.search import Line, batch_length, split_points
from flows.landing.steps import Candidate, Probe, Stacked
from flows.ledger.events import ProbeEnded, ProbeKind


def line(n: int) -> Line:
    """A line of so many candidates, `u1` on top of `green`, `u2` on top of it, and so on."""
    made = Line(number=0, base="green", below="green")
    for i in range(1, n + 1):
        made.add(Candidate(unit=f"u{i}", attempt=1, head=f"h{i}"), made.tip, f"c{i}", f"t{i}")
    return made


def ended(verdict: str, probe: int = 1) -> ProbeEnded:
    return ProbeEnded(probe=probe, verdict=verdict)


def probing(*lengths: int) -> dict[int, Probe]:
    return {n: Probe(number=n, kind=ProbeKind.STACK, commit=f"c{n}") for n in lengths}


def wanted(of: Line, *in_flight: int, free: int = 1, rate: float = 0.05) -> list[int]:
    return of.wanted(probing(*in_flight), free, rate)


def units(stack: Sequence[Stacked]) -> list[str]:
    return [s.candidate.unit for s in stack]


def test_each_candidate_is_merged_on_top_of_the_one_before() -> None:
    assert line(0).tip == "green"
    assert line(2).tip == "c2"
    assert [s.onto for s in line(2).stack] == ["green", "c1"]


def test_a_prefix_is_known_by_the_commit_it_ends_with() -> None:
    assert [line(2).length_at(commit) for commit in ("c1", "c2", "c3", "green")] == [1, 2, 0, 0]


def test_the_longest_green_and_the_shortest_red_prefix_are_kept() -> None:
    known = line(6)
    for commit, verdict in (("c1", "passed"), ("c3", "passed"), ("c2", "passed")):
        known.learn(commit, ended(verdict))
    for commit in ("c6", "c4", "c5"):
        known.learn(commit, ended("red"))
    assert known.passed is not None
    assert known.red is not None
    assert (known.passed[0], known.red[0]) == (3, 4)


@pytest.mark.parametrize(("commit", "verdict"), [("c9", "red"), ("c1", "not a run")])
def test_what_is_no_verdict_on_a_prefix_teaches_nothing(commit: str, verdict: str) -> None:
    known = line(2)
    known.learn(commit, ended(verdict))
    assert (known.passed, known.red) == (None, None)


def test_the_first_verdict_on_a_prefix_stands() -> None:
    known = line(2)
    for number in (1, 2):
        known.learn("c1", ended("passed", number))
        known.learn("c2", ended("red", number))
    assert known.passed is not None
    assert known.red is not None
    assert (known.passed[1].probe, known.red[1].probe) == (1, 1)


def test_the_culprit_is_known_when_the_first_one_alone_is_red() -> None:
    known = line(2)
    assert known.culprit is None
    known.learn("c2", ended("red"))
    assert known.culprit is None
    known.learn("c1", ended("red"))
    assert known.culprit is known.stack[0]


def test_what_passed_is_dropped_and_the_rest_stands_on_it() -> None:
    known = line(4)
    known.learn("c2", ended("passed"))
    known.learn("c3", ended("red"))
    assert units(known.drop(2)) == ["u1", "u2"]
    assert units(known.stack) == ["u3", "u4"]
    assert known.base == "c2"
    assert known.passed is None
    assert known.red is not None
    assert known.red[0] == 1
    assert known.culprit is known.stack[0]


def test_a_red_inside_of_what_passed_is_forgotten() -> None:
    known = line(3)
    known.learn("c2", ended("red"))
    known.drop(2)
    assert known.red is None
    assert known.base == "c2"


def test_dropping_nothing_changes_nothing() -> None:
    known = line(2)
    known.learn("c1", ended("red"))
    assert known.drop(0) == []
    assert (known.base, len(known.stack)) == ("green", 2)
    assert known.red is not None


def test_the_probes_of_a_line_are_those_of_its_prefixes() -> None:
    probes = [Probe(number=i, kind=ProbeKind.STACK, commit=c) for i, c in enumerate(["c2", "x"])]
    assert line(3).in_flight(probes) == {2: probes[0]}


def test_a_line_of_which_nothing_is_known_is_probed_as_a_whole_and_once() -> None:
    assert wanted(line(3)) == [3]
    assert wanted(line(3), 3) == []
    assert wanted(line(3), 2) == [3], "it has grown since"
    assert wanted(line(0)) == []
    assert wanted(line(3), free=0) == []


def test_a_red_line_is_split_unless_a_shorter_prefix_is_asked_about_already() -> None:
    known = line(4)
    known.learn("c4", ended("red"))
    assert wanted(known) == [2]
    assert wanted(known, 2) == []
    assert wanted(known, 4) == [2], "the red one itself answers nothing"
    known.learn("c1", ended("red"))
    assert wanted(known) == [], "the culprit is known"


def test_a_red_line_of_two_asks_about_the_first_alone() -> None:
    known = line(2)
    known.learn("c2", ended("red"))
    assert wanted(known) == [1]
    assert wanted(known, free=3) == [1]


@pytest.mark.parametrize(
    ("red", "half"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 4), (12, 4), (13, 5)]
)
def test_one_probe_splits_so_that_the_longest_words_come_last(red: int, half: int) -> None:
    """The positions with the shorter words are the first ones: they are the likeliest."""
    assert split_points(red, 1, 0.05) == [half]


def test_more_probes_split_the_chances_evenly() -> None:
    assert split_points(8, 3, 1e-9) == [2, 4, 6]
    assert split_points(40, 3, 0.05) == [5, 11, 21]
    assert split_points(64, 1, 0.2) == [3], "beyond a batch the first ones are likelier by far"
    assert split_points(3, 9, 0.05) == [1, 2]


@pytest.mark.parametrize(("rate", "length"), [(0.0, 64), (1.0, 1), (0.011, 63), (0.5, 1)])
def test_a_batch_is_bounded(rate: float, length: int) -> None:
    assert batch_length(rate) == length
