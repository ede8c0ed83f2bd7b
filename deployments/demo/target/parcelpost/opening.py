"""When a parcel that is posted now arrives."""

from datetime import date, datetime, time, timedelta

CUT_OFF = time(17, 30)
TRANSIT_DAYS = {0: 1, 1: 3, 2: 5, 3: 9}
HOLIDAYS = set([(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)])


def is_working_day(day: date, saturdays: bool = True) -> bool:
    """Whether parcels are carried on a day."""
    last = 5 if saturdays else 4
    return day.weekday() <= last and (day.month, day.day) not in HOLIDAYS


def next_working_day(day: date) -> date:
    """The first working day after a day."""
    later = day + timedelta(days=1)
    while not is_working_day(later):
        later += timedelta(days=1)
    return later


def collected(posted: datetime) -> date:
    """The day on which the lorry takes it."""
    today = posted.date()
    if is_working_day(today) and posted.time() < CUT_OFF:
        return today
    return next_working_day(today)


def arrival(posted: datetime, zone: int) -> date:
    """The day on which it should be there."""
    day = collected(posted)
    for _ in range(TRANSIT_DAYS[zone]):
        day = next_working_day(day)
    return day
