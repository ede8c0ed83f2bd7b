import pytest

from parcelpost.address import Address, is_postcode, parse

ADA = "Ada Lovelace\n12 St James's Square\nSW1Y 4JH London\nGB"


@pytest.mark.parametrize(
    ("country", "text", "valid"),
    [
        ("DE", "10115", True),
        ("DE", "1011", False),
        ("NL", "1012 AB", True),
        ("US", "20500-0003", True),
        ("JP", "100-0001", True),
        ("JP", " ", False),
    ],
)
def test_a_postcode_fits_its_country(country, text, valid):
    assert is_postcode(country, text) is valid


def test_an_address_at_home_has_three_lines():
    address = parse("Emmy Noether\nHauptstraße 23\n91054 Erlangen")
    assert address == Address("Emmy Noether", "Hauptstraße 23", "91054", "Erlangen")
    assert len(address.lines()) == 3


def test_an_address_abroad_ends_with_its_country():
    assert parse(ADA).country == "GB"
    assert parse(ADA).postcode == "SW1Y 4JH"
    assert parse(ADA).lines()[-1] == "GB"


def test_an_address_with_a_wrong_postcode_is_refused():
    with pytest.raises(ValueError, match="no postcode of DE: 9105"):
        parse("Emmy Noether\nHauptstraße 23\n9105 Erlangen")


def test_an_address_needs_all_its_lines():
    with pytest.raises(ValueError, match="not 1"):
        parse("Emmy Noether")
