import pytest

from parcelpost.money import NotAnAmount, cents, euros, per_cent, with_tax


@pytest.mark.parametrize("text", ["12.5", "12,50", "€ 12.50", " 12.50 "])
def test_an_amount_is_read_however_it_is_written(text):
    assert cents(text) == 1250


def test_what_is_no_amount_is_refused():
    with pytest.raises(NotAnAmount, match="twelve"):
        cents("twelve")


@pytest.mark.parametrize(
    ("amount", "text"), [(1250, "€ 12.50"), (5, "€ 0.05"), (-199, "-€ 1.99")]
)
def test_an_amount_is_written_with_two_digits_for_cents(amount, text):
    assert euros(amount) == text


def test_half_a_cent_is_rounded_up():
    assert per_cent(50, 1.0) == 1


def test_the_tax_in_a_price_is_shown():
    assert with_tax(1190) == "€ 11.90 incl. € 1.90 tax"
