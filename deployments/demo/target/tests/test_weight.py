import pytest

from parcelpost.weight import TooHeavy, checked, describe, grams


@pytest.mark.parametrize(("text", "weight"), [("350 g", 350), ("1.2 kg", 1200)])
def test_a_weight_is_read_in_grams(text, weight):
    assert grams(text) == weight


def test_a_weight_needs_its_unit():
    with pytest.raises(ValueError, match="neither g nor kg"):
        grams("3 lb")


@pytest.mark.parametrize(("weight", "text"), [(999, "999 g"), (2500, "2.5 kg")])
def test_a_weight_is_written_the_way_people_say_it(weight, text):
    assert describe(weight) == text


def test_a_parcel_weighs_at_most_31_and_a_half_kilos():
    assert checked(31_500) == 31_500
    with pytest.raises(TooHeavy):
        checked(31_501)


def test_a_parcel_weighs_something():
    with pytest.raises(ValueError, match="weighs something"):
        checked(0)
