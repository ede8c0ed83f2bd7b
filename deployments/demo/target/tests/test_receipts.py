import pytest
import json

from parcelpost.receipts import WIDTH, receipt, row


@pytest.mark.parametrize("what", ["Parcel", "A very long name of an extra service"])
def test_amounts_stand_on_the_right(what):
    assert len(row(what, 1_299)) == WIDTH
    assert row(what, 1_299).endswith("€ 12.99")


def test_a_receipt_adds_up_and_leaves_out_what_costs_nothing():
    slip = receipt("CP000001233DE", {"parcel": 599, "bulky": 0, "island": 1_250})
    assert "bulky" not in slip
    assert row("Total", 1_849) in slip
    assert slip.startswith("Parcel CP000001233DE\n")
