from parcelpost.routing import NoWay, depots, route
import pytest


def test_the_fastest_way_is_not_the_one_with_fewest_depots():
    minutes, way = route("Hamburg", "München")
    assert minutes == 555
    assert way == ["Hamburg", "Hannover", "Frankfurt", "Nürnberg", "München"]


def test_there_and_back_take_the_same_time():
    assert route("Köln", "Leipzig")[0] == route("Leipzig", "Köln")[0]


def test_a_parcel_that_is_there_needs_no_road():
    assert route("Berlin", "Berlin") == (0, ["Berlin"])


def test_an_unknown_depot_is_not_reached():
    with pytest.raises(NoWay, match="Berlin to Atlantis"):
        route("Berlin", "Atlantis")


def test_depots_are_found_by_the_roads_that_lead_there():
    assert depots({"A": {"B": 1}, "C": {}}) == ["A", "B", "C"]
