from datetime import datetime, timedelta

import pytest

from parcelpost.events import NEXT, Event, History, Impossible

START = datetime(2024, 3, 4, 10, 0)


def history(*states):
    told = History()
    for hours, state in enumerate(states):
        told.add(Event(START + timedelta(hours=hours * 20), state, state.title()))
    return told


def test_a_parcel_goes_from_the_counter_to_the_door():
    told = history("posted", "sorted", "out", "delivered")
    assert told.state == "delivered"
    assert told.days() == 2


def test_nothing_is_delivered_before_it_is_posted():
    with pytest.raises(Impossible, match="delivered after nothing"):
        history("delivered")


def test_nothing_happens_after_the_delivery():
    assert "delivered" not in NEXT
    with pytest.raises(Impossible, match="sorted after delivered"):
        history("posted", "sorted", "out", "delivered", "sorted")


def test_the_clock_does_not_run_backwards():
    told = history("posted")
    with pytest.raises(Impossible, match="backwards"):
        told.add(Event(START - timedelta(hours=1), "sorted"))


def test_a_parcel_is_where_it_was_seen_last():
    told = history("posted", "sorted")
    told.add(Event(START + timedelta(days=2), "out"))
    assert told.place == "Sorted"
    assert History().place is None
