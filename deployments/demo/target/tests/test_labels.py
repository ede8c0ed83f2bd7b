from parcelpost.address import Address
from parcelpost.labels import NO_STREET, WIDTH, barcode, label

HOME = Address("Emmy Noether", "Hauptstraße 23", "91054", "Erlangen")


def test_every_line_of_a_label_has_the_same_width():
    lines = label(HOME, 1_400, "CP000001233DE").splitlines()
    assert {len(line) for line in lines if "CP" not in line} == {WIDTH}


def test_a_label_shows_the_weight_on_the_right():
    assert "1.4 kg\n" in label(HOME, 1_400, "CP000001233DE")


def test_a_missing_street_is_marked():
    nowhere = Address("Emmy Noether", "", "91054", "Erlangen")
    assert NO_STREET in label(nowhere, 200, "CP000001233DE")


def test_the_number_is_grouped_for_reading():
    assert barcode("CP000001233DE").strip() == "CP 0000 01233 DE"
