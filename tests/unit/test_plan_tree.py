"""The plan tree: what is asked, how often, and that it comes to an end."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.planning.answers import Part, PlanAnswer
from flows.planning.plan import Unit, UnitId
from flows.planning.tree import ROOT, PlanTree, Question


def parts(*names: str) -> PlanAnswer:
    return PlanAnswer(
        parts=tuple(Part(id=name, title=name.upper(), scope=f"all of {name}") for name in names)
    )


def units(*names: str) -> PlanAnswer:
    return PlanAnswer(units=tuple(Unit(id=UnitId(name), title=name) for name in names))


def asked(tree: PlanTree, path: str) -> PlanTree:
    assert tree.ask(path)
    return tree


def open_paths(tree: PlanTree) -> list[str]:
    return [question.path for question in tree.questions()]


def test_the_objective_is_asked_first() -> None:
    tree = PlanTree("Make it\nfast.", max_depth=1)
    assert tree.questions() == [
        Question(path=ROOT, depth=0, title="Make it fast.", scope="", refused="", may_split=True)
    ]
    assert not tree.is_done


def test_what_is_asked_is_not_offered_again() -> None:
    tree = asked(PlanTree("x"), ROOT)
    assert tree.questions() == []
    assert not tree.ask(ROOT)
    assert not tree.is_done


def test_parts_are_offered_together_and_before_their_later_siblings() -> None:
    tree = PlanTree("x")
    asked(tree, ROOT).take(ROOT, parts("a", "b", "c"))
    assert open_paths(tree) == ["0.1", "0.2", "0.3"]
    asked(tree, "0.2").take("0.2", parts("d", "e"))
    assert open_paths(tree) == ["0.1", "0.2.1", "0.2.2", "0.3"]
    last = tree.questions()[2]
    assert (last.depth, last.title, last.scope) == (2, "E", "all of e")


def test_it_is_done_when_all_is_answered() -> None:
    tree = PlanTree("x")
    asked(tree, ROOT).take(ROOT, parts("a", "b"))
    asked(tree, "0.1").take("0.1", units("u", "v"))
    asked(tree, "0.2").take("0.2", PlanAnswer())
    assert tree.is_done
    shown = [(n.path, n.parent, n.depth, n.title, n.kind, n.n_units) for n in tree.nodes]
    assert shown == [
        ("0", "", 0, "x", "parts", 0),
        ("0.1", "0", 1, "A", "units", 2),
        ("0.2", "0", 1, "B", "units", 0),
    ]


def test_below_the_deepest_parts_only_units_are_asked_for() -> None:
    tree = PlanTree("x", max_depth=1)
    asked(tree, ROOT).take(ROOT, parts("a"))
    assert not tree.questions()[0].may_split
    asked(tree, "0.1").take("0.1", parts("b"))
    assert "not divided further" in tree.questions()[0].refused


def test_units_that_are_no_plan_are_refused() -> None:
    tree = asked(PlanTree("x"), ROOT)
    tree.take(ROOT, units("a", "a"))
    assert "unit 'a': id: unit 1 of the plan has this id" in tree.questions()[0].refused


def test_a_refused_answer_is_asked_for_once_more_with_the_problem() -> None:
    tree = asked(PlanTree("x"), ROOT)
    tree.refuse(ROOT, "no JSON")
    (question,) = tree.questions()
    assert (question.refused, question.n_asked) == ("no JSON", 1)
    asked(tree, ROOT).take(ROOT, units("a"))
    assert tree.is_done
    assert tree.nodes[0].kind == "units"


def test_after_the_second_refusal_a_part_is_one_unit() -> None:
    tree = PlanTree("x", agent="coder")
    asked(tree, ROOT).take(ROOT, parts("a"))
    asked(tree, "0.1").refuse("0.1", "no")
    asked(tree, "0.1").refuse("0.1", "no again")
    assert tree.is_done
    node = tree.node("0.1")
    assert (node.kind, node.is_leaf_by_default, node.refused) == ("leaf", True, "no again")
    assert node.answer == PlanAnswer(
        units=(Unit(id=UnitId("a"), title="A", prompt="all of a", agent="coder"),)
    )


@pytest.mark.parametrize("objective", ["Make it fast.\nPlease.", "速く"])
def test_an_objective_that_nobody_can_plan_is_one_unit(objective: str) -> None:
    tree = PlanTree(objective)
    for _ in range(2):
        asked(tree, ROOT).refuse(ROOT, "no")
    answer = tree.node(ROOT).answer
    assert answer is not None
    (leaf,) = answer.units
    assert (leaf.title, leaf.prompt) == (" ".join(objective.split()), objective)
    assert leaf.id in {"make-it-fast-please", "objective"}


def test_a_lost_ask_uses_nothing_up() -> None:
    tree = PlanTree("x")
    for _ in range(9):
        asked(tree, ROOT).put_back(ROOT)
    asked(tree, ROOT).refuse(ROOT, "no")
    asked(tree, ROOT).put_back(ROOT)
    (question,) = tree.questions()
    assert (question.refused, question.n_asked) == ("no", 11)


def test_what_comes_late_changes_nothing() -> None:
    tree = asked(PlanTree("x"), ROOT)
    tree.take(ROOT, units("a"))
    before = pickle.dumps(tree)
    assert not tree.take(ROOT, parts("b"))
    assert not tree.refuse(ROOT, "no")
    assert not tree.put_back(ROOT)
    assert not tree.ask(ROOT)
    assert not tree.take("0.7", units("a"))
    assert pickle.dumps(tree) == before


moves = st.sampled_from(["parts", "units", "none", "refuse", "put back", "too many"])


@given(st.data(), st.integers(0, 2), st.integers(1, 3))
def test_it_always_comes_to_an_end(data: st.DataObject, max_depth: int, max_children: int) -> None:
    tree = PlanTree("x", max_depth=max_depth, max_children=max_children)
    n_answers, lost = Counter[str](), 20
    while not tree.is_done:
        questions = tree.questions()
        offered = {question.path for question in questions}
        assert {node.path for node in tree.nodes if not node.n_asked} <= offered
        for question in data.draw(st.permutations(questions)):
            asked(tree, question.path)
            move = data.draw(moves)
            if move == "put back" and lost:
                lost -= 1
                assert tree.put_back(question.path)
                continue
            n_answers[question.path] += 1
            answer = {
                "parts": parts(*"abc"[:max_children]),
                "units": units("u"),
                "none": PlanAnswer(),
                "too many": parts(*"abcd"),
            }.get(move)
            taken = answer is not None and tree.take(question.path, answer)
            assert taken or tree.refuse(question.path, "no")
    assert len(tree.nodes) <= sum(max_children**depth for depth in range(max_depth + 1))
    assert max(n_answers.values()) <= 2
    assert all(node.n_units <= max_children for node in tree.nodes)
    assert not tree.questions()
