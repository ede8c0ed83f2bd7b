import pytest

from parcelpost.tracking import check_digit, is_valid, number


@pytest.mark.parametrize(
    ("serial", "digit"), [(47312482, 9), (12345678, 5), (0, 5), (10, 2), (8, 0)]
)
def test_the_check_digit_follows_the_standard(serial, digit):
    assert check_digit(serial) == digit


def test_a_number_says_service_serial_and_country():
    assert number("registered", 47312482, "GB") == "RR473124829GB"


@pytest.mark.parametrize("service", ["parcel", "express", "insured"])
def test_every_number_we_give_is_valid(service):
    assert is_valid(number(service, 123))


@pytest.mark.parametrize("text", ["RR473124828GB", "RR47312482GB", "4R473124829GB", ""])
def test_a_mistyped_number_is_caught(text):
    assert not is_valid(text)


def test_spaces_and_small_letters_do_not_matter():
    assert is_valid("rr 4731 2482 9 gb")


def test_an_unknown_service_has_no_numbers():
    with pytest.raises(ValueError, match="no such service: pigeon"):
        number("pigeon", 1)


def test_a_serial_has_eight_digits():
    with pytest.raises(ValueError, match="eight digits"):
        number("parcel", 100_000_000)
