from datetime import date, datetime, timedelta

import pytest

from parcelpost.opening import arrival, collected, is_working_day

MONDAY = datetime(2024, 3, 4, 10, 0)


@pytest.mark.parametrize(
    ("day", "working"),
    [
        (date(2024, 3, 4), True),
        (date(2024, 3, 9), True),
        (date(2024, 3, 10), False),
        (date(2024, 5, 1), False),
    ],
)
def test_parcels_are_carried_on_all_days_but_sundays_and_holidays(day, working):
    assert is_working_day(day) is working


def test_some_depots_rest_on_saturdays():
    assert not is_working_day(date(2024, 3, 9), saturdays=False)


def test_what_is_posted_in_the_evening_goes_the_next_day():
    assert collected(MONDAY) == date(2024, 3, 4)
    assert collected(MONDAY.replace(hour=18)) == date(2024, 3, 5)


def test_a_sunday_in_between_does_not_count():
    assert arrival(MONDAY, 0) == date(2024, 3, 5)
    assert arrival(MONDAY, 2) == date(2024, 3, 9)
    assert arrival(MONDAY, 3) == date(2024, 3, 14)
