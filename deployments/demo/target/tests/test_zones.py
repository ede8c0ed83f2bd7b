import pytest

from parcelpost.zones import UnknownCountry, flies, zone


@pytest.mark.parametrize(
    ("country", "number"), [("DE", 0), ("FR", 1), ("NO", 2), ("PT", 2), ("JP", 3)]
)
def test_a_country_has_the_zone_of_its_distance(country, number):
    assert zone(country) == number


def test_a_country_is_given_by_its_code():
    with pytest.raises(UnknownCountry, match="France"):
        zone("France")


@pytest.mark.parametrize(("country", "air"), [("US", True), ("IS", True), ("IT", False)])
def test_parcels_fly_where_no_lorry_gets(country, air):
    assert flies(country) is air
