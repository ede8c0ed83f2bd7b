import pytest

from parcelpost.customs import Item, declaration, form, needs_form, value

BOOKS = Item("books", 3, 6_000, 1_200)
WATCH = Item("watch", 1, 39_000, 150)


@pytest.mark.parametrize(("country", "form"), [("FR", False), ("CH", True)])
def test_only_what_leaves_the_customs_union_needs_a_form(country, form):
    assert needs_form(country) is form


def test_small_values_go_with_the_short_form():
    assert form("CH", [BOOKS]) == "CN 22"
    assert form("CH", [BOOKS, WATCH]) == "CN 23"
    assert form("FR", [BOOKS, WATCH]) == ""


def test_the_value_is_that_of_all_items():
    assert value([BOOKS, WATCH]) == 45_000


def test_the_heaviest_thing_is_declared_first():
    assert declaration([WATCH, BOOKS]) == ["3 x books, 1200 g", "1 x watch, 150 g"]
