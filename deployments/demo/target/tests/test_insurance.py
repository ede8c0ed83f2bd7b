import pytest

from parcelpost.insurance import NotInsurable, payout, premium


@pytest.mark.parametrize(
    ("value", "cost"), [(0, 0), (50_000, 0), (50_001, 350), (120_000, 700)]
)
def test_cover_costs_by_started_steps(value, cost):
    assert premium(value) == cost


def test_treasures_are_not_covered():
    with pytest.raises(NotInsurable):
        premium(2_500_001)


def test_a_loss_is_paid_up_to_the_cover():
    assert payout(30_000, paid=0) == 30_000
    assert payout(120_000, paid=350) == 100_000
