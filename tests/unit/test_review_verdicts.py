"""What a reviewing agent said, read from whatever it printed."""

from __future__ import annotations

import json

import pytest

from flows.judging.review import MOST_FINDINGS, read_review


def said(**value: object) -> str:
    return f"I looked.\nMISSION_REVIEW: {json.dumps(value)}"


def test_a_refusal_has_its_findings_with_their_places() -> None:
    finding = {"file": "a.py", "line": 7, "severity": "error", "text": "the test is gone"}
    verdict = read_review(said(verdict="refuse", findings=[finding, "sloppy"], summary="no"))
    assert verdict is not None
    assert verdict.is_refused
    assert str(verdict) == "no\n- a.py:7: the test is gone\n- sloppy"


@pytest.mark.parametrize("word", ["accept", "Approved", " accepted "])
def test_an_acceptance_is_one_in_other_words_too(word: str) -> None:
    verdict = read_review(said(verdict=word))
    assert verdict is not None
    assert not verdict.is_refused


@pytest.mark.parametrize(
    "text", ["", "fine by me", said(verdict="maybe"), said(findings=["x"]), "MISSION_REVIEW: {"]
)
def test_what_has_no_verdict_is_no_answer(text: str) -> None:
    assert read_review(text) is None


def test_findings_are_bounded_and_of_any_form() -> None:
    verdict = read_review(said(verdict="refuse", findings=[7, None, {}, *["x" * 900] * 99]))
    assert verdict is not None
    assert len(verdict.findings) <= MOST_FINDINGS
    assert max(map(len, verdict.findings)) <= 500
