"""Commits that an agent claims, held against those that there are."""

from __future__ import annotations

from typing import Any

import pytest

from flows.running.policy import describe_unfounded, unfounded_claims

REAL = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


@pytest.mark.parametrize(
    ("claimed", "unfounded"),
    [
        ([REAL], ()),
        ([REAL[:7], f" {REAL[:12].upper()}\n"], ()),
        ([OTHER, OTHER, REAL], (OTHER,)),
        ([REAL[1:9]], (REAL[1:9],)),
        (["the last one", "HEAD", "abc", REAL + "0", "", 7, None], ()),
        (REAL, ()),
        (None, ()),
    ],
)
def test_ids_that_are_not_there_are_told(claimed: Any, unfounded: tuple[str, ...]) -> None:
    assert unfounded_claims({"commits": claimed}, [REAL]) == unfounded


def test_who_claims_nothing_lies_about_nothing() -> None:
    assert unfounded_claims({}, ()) == ()
    assert describe_unfounded(()) == ""
    assert describe_unfounded((REAL,)) == f"it claims commits that are not there: {REAL}"
