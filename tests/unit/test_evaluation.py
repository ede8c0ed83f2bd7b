"""What an evaluating agent says: no answer is neither 0 nor no, and its flag alone ends nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.judging.evaluation import (
    EVALUATION_MARKS,
    Judgement,
    is_met,
    judgement_from_dict,
    read_evaluation,
)
from flows.prompts.prompts import EVALUATION_MARK, EvaluatorPrompt, render_evaluator


def read(**fields: Any) -> Judgement | None:
    return read_evaluation(f"So:\nMISSION_EVALUATION: {json.dumps(fields)}\n")


def test_the_mark_is_the_one_that_evaluators_are_asked_for() -> None:
    assert (EVALUATION_MARK.rstrip(":"),) == EVALUATION_MARKS


def test_a_judgement_is_read() -> None:
    assert read(score=0.7, met=False, remains=["docs", " tests\nof x "], summary="Nearly.") == (
        Judgement(score=0.7, met=False, remains=("docs", "tests of x"), summary="Nearly.")
    )


@pytest.mark.parametrize(
    "text", ["", "score: 0.7", "MISSION_EVALUATION: {}", 'MISSION_EVALUATION: {"mood": 1}']
)
def test_no_answer_is_none(text: str) -> None:
    assert read_evaluation(text) is None


def test_a_prompt_that_is_printed_back_is_no_answer() -> None:
    assert read_evaluation(render_evaluator(EvaluatorPrompt(objective="x", signals={}))) is None


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0, 0.0),
        (1, 1.0),
        ("0.25", 0.25),
        (1.01, None),
        (-0.1, None),
        (70, None),
        ("good", None),
        (True, None),
        ([0.5], None),
        (float("nan"), None),
        ("nan", None),
        (float("inf"), None),
        (10**400, None),
    ],
)
def test_a_score_that_is_none_is_not_0(score: object, expected: float | None) -> None:
    found = read(score=score, summary="x")
    assert found is not None
    assert found.score == expected


@pytest.mark.parametrize(
    ("met", "expected"),
    [(True, True), ("true", True), ("Yes ", True), ("false", False), (1, None), ("so so", None)],
)
def test_a_flag_may_be_a_word(met: object, expected: bool | None) -> None:
    found = read(met=met, summary="x")
    assert found is not None
    assert found.met is expected


@pytest.mark.parametrize(
    ("remains", "expected"),
    [
        ("the docs", ("the docs",)),
        ("Nothing.", ()),
        (["none", "", None, "…"], ()),
        ([{"task": "docs"}, 7], ('{"task": "docs"}', "7")),
        ({"task": "docs"}, ('{"task": "docs"}',)),
        (["a", "a"], ("a",)),
    ],
)
def test_what_remains_is_not_lost(remains: object, expected: tuple[str, ...]) -> None:
    found = read(remains=remains, summary="x")
    assert found is not None
    assert found.remains == expected


def test_lists_and_texts_are_bounded() -> None:
    found = read(remains=[f"{n} " + "x" * 3_000 for n in range(70)], summary="y" * 9_000)
    assert found is not None
    assert len(found.remains) == 50
    assert max(map(len, found.remains)) == 500
    assert len(found.summary) == 4_000


@given(
    st.builds(
        Judgement,
        score=st.none() | st.floats(0, 1),
        met=st.none() | st.booleans(),
        remains=st.lists(st.text()).map(tuple),
        summary=st.text(),
    )
)
def test_a_judgement_comes_back_from_the_ledger(judgement: Judgement) -> None:
    assert judgement_from_dict(json.loads(json.dumps(judgement.as_dict()))) == judgement


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["score", "met", "remains", "summary"]), values))
def test_whatever_is_said_is_a_judgement_or_none(said: dict[str, Any]) -> None:
    found = read(**said)
    assert found is None or found.score is None or 0 <= found.score <= 1


@pytest.mark.parametrize(
    ("are_units_satisfied", "judgement", "expected"),
    [
        (True, Judgement(met=True), True),
        (True, Judgement(met=True, score=0.2), True),
        (False, Judgement(met=True, score=1.0), False),
        (True, Judgement(met=True, remains=("docs",)), False),
        (True, Judgement(met=False), False),
        (True, Judgement(score=1.0), False),
        (True, None, False),
    ],
)
def test_a_flag_alone_never_suffices(
    are_units_satisfied: bool, judgement: Judgement | None, expected: bool
) -> None:
    assert is_met(are_units_satisfied=are_units_satisfied, judgement=judgement) is expected
