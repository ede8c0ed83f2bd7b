"""What happens to a parcel, and what may happen next."""

from datetime import datetime
from typing import Dict, List, NamedTuple, Optional, Set

NEXT: Dict[str, Set[str]] = {
    "": {"posted"},
    "posted": {"sorted", "returned"},
    "sorted": {"sorted", "out", "customs", "returned"},
    "customs": {"sorted", "returned"},
    "out": {"delivered", "missed"},
    "missed": {"out", "collected", "returned"},
    "returned": {"sorted", "delivered"},
}


class Event(NamedTuple):
    """Something that happened to a parcel somewhere."""

    at: datetime
    what: str
    where: str = ""


class Impossible(ValueError):
    """This cannot happen to the parcel now."""


class History(object):
    """All that happened to one parcel, in order."""

    def __init__(self) -> None:
        self.events: List[Event] = []

    def add(self, event: Event) -> None:
        """Note what happened, if it can have happened."""
        if event.what not in NEXT.get(self.state, set()):
            raise Impossible(f"{event.what} after {self.state or 'nothing'}")
        if self.events and event.at < self.events[-1].at:
            raise Impossible("the clock runs backwards")
        self.events.append(event)

    @property
    def state(self) -> str:
        """What happened last, or ""."""
        return self.events[-1].what if self.events else ""

    @property
    def place(self) -> Optional[str]:
        """Where the parcel was seen last; None before anybody saw it."""
        seen = [event.where for event in self.events if event.where]
        return seen[-1] if seen else None

    def days(self) -> int:
        """How many days it has been on the way."""
        return (self.events[-1].at - self.events[0].at).days if self.events else 0
