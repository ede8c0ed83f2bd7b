import pytest

from parcelpost.tariff import PRICES, STEPS, NoPrice, next_step, price


def test_a_weight_on_the_edge_belongs_to_the_cheaper_step():
    assert price(0, 1_000) == 495
    assert price(0, 1_001) == 599


@pytest.mark.parametrize("zone", sorted(PRICES))
def test_a_heavier_parcel_is_never_cheaper(zone):
    assert list(PRICES[zone]) == sorted(PRICES[zone])
    assert len(PRICES[zone]) == len(STEPS)


def test_what_is_not_on_the_list_has_no_price():
    with pytest.raises(NoPrice, match="zone 7"):
        price(7, 100)
    with pytest.raises(NoPrice, match="31501 g"):
        price(0, 31_501)


def test_the_room_up_to_the_next_step_is_known():
    assert next_step(1_400) == 600
    assert next_step(31_000) is None
