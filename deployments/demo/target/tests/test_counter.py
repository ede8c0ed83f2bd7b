import pytest

from parcelpost.counter import quote
from parcelpost.size import Size

SMALL = Size(30, 20, 10)


def test_a_parcel_at_home_costs_its_weight_step():
    assert quote("1.4 kg", SMALL, "DE").total == 599


def test_extras_are_positions_of_their_own():
    positions = quote(
        "1.4 kg", SMALL, "DE", "27498", value=60_000, saturday=True
    ).positions
    assert positions["island"] == 1_250
    assert positions["Saturday"] == 595
    assert positions["insurance"] == 350


def test_in_the_air_the_volume_counts():
    light = Size(50, 40, 30)
    assert quote("1 kg", light, "FR").positions["parcel"] == 899
    assert quote("1 kg", light, "US").positions["parcel"] == 8_499


def test_a_parcel_that_is_too_heavy_gets_no_quote():
    with pytest.raises(ValueError, match="31.5 kg|32 kg"):
        quote("32 kg", SMALL, "DE")
