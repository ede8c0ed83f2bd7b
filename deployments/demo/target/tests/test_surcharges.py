import pytest

from parcelpost.size import Size
from parcelpost.surcharges import BULKY, ISLAND, SATURDAY, bulky, island, saturday


def test_only_a_bulky_parcel_costs_more():
    assert bulky(Size(150, 10, 10)) == BULKY
    assert bulky(Size(30, 20, 10)) == 0


def test_an_island_costs_more_at_home_only():
    assert island("DE", "27498") == ISLAND
    assert island("DE", "10115") == 0
    assert island("FR", "27498") == 0


def test_saturdays_exist_at_home_only():
    assert saturday(True, 0) == SATURDAY
    assert saturday(False, 3) == 0
    with pytest.raises(ValueError, match="no Saturday delivery abroad"):
        saturday(True, 1)
