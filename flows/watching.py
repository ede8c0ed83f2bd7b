"""What runs beside a driver: lease renewed, inbox read, a cancel and a moved base noticed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import httpx
from prefect import get_client, runtime
from prefect.exceptions import PrefectException

from blocks.errors import MissionError
from blocks.repository import remote_branches
from flows.driver import Driver
from flows.ledger.events import BaseMoved, RevertRequested, ReviewAnswered, StopRequested
from flows.missions import receive, send

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
INBOX_SECONDS = 0.5
CANCEL_SECONDS = 3.0


@contextmanager
def watched(driver: Driver, folder: Path) -> Iterator[None]:
    """Keep watch beside a driver until it ends."""
    over = Event()
    watches = [
        _every(LEASE_SECONDS, lambda: _renew(driver), over, "lease"),
        _every(INBOX_SECONDS, lambda: _read_inbox(driver, folder), over, "inbox"),
    ]
    poll = driver.settings.repository.poll
    base = _every(poll, lambda: _look_at_base(driver), over, "base")
    if run_id := runtime.flow_run.id:
        cancelled = _cancel_watch(driver, UUID(str(run_id)))
        watches.append(_every(CANCEL_SECONDS, cancelled, over, "cancel"))
    try:
        yield
    finally:
        over.set()
        for watch in watches:
            watch.join()
        base.join(timeout=LEASE_SECONDS)  # a target that does not answer holds nobody up
        _give_back(driver, folder)


def _every(seconds: float, act: Callable[[], None], over: Event, name: str) -> Thread:
    def work() -> None:
        while not over.wait(seconds):
            act()

    act()
    thread = Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _renew(driver: Driver) -> None:
    for place in driver.bench.places.values():
        try:
            place.renew(driver.bench.lease(place))
        except (MissionError, OSError) as error:
            logger.warning("the lease on %s could not be renewed: %s", place.name, error)


def _read_inbox(driver: Driver, folder: Path) -> None:
    for message in receive(folder):
        by = str(message.get("by", "somebody"))
        match message.get("command"):
            case "stop":
                driver.post(StopRequested(by=by, reason=str(message.get("reason", ""))))
            case "revert":
                driver.post(RevertRequested(unit=str(message.get("unit", "")), by=by))
            case "review":
                driver.post(_answer(message, by))
            case other:
                logger.warning("the inbox holds a command that is not known: %s", other)


def _give_back(driver: Driver, folder: Path) -> None:
    """Keep for the next driver what came when this one did not take in anything any more."""
    while not driver.inbox.empty():
        told = driver.inbox.get_nowait()
        if isinstance(told, ReviewAnswered | RevertRequested):
            command = "review" if isinstance(told, ReviewAnswered) else "revert"
            send(folder.parents[1], folder.name, {"command": command, **asdict(told)})


def _answer(message: Mapping[str, str], by: str) -> ReviewAnswered:
    return ReviewAnswered(
        review=str(message.get("review", "")),
        answer=str(message.get("answer", "")),
        by=by,
        note=str(message.get("note", "")),
    )


def _look_at_base(driver: Driver) -> None:
    """Fetch what was pushed to the base branch; the driver says whether it is news."""
    repository, settings = driver.bench.repository, driver.settings.repository
    try:
        tip = remote_branches(settings.url).get(settings.base)
        if tip is None or tip == driver.state.base_tip:
            return
        repository.fetch(settings.url, [settings.base])
    except (MissionError, OSError) as error:
        logger.debug("the base branch was not looked at: %s", error)
        return
    driver.post(BaseMoved(branch=settings.base, commit=tip))


def _cancel_watch(driver: Driver, run_id: UUID) -> Callable[[], None]:
    """Notice that the UI asks this run to be cancelled: nothing else ends an in-process run."""
    client = get_client(sync_client=True)

    def look() -> None:
        if driver.is_stopping:
            return
        try:
            state = client.read_flow_run(run_id).state
        except (httpx.HTTPError, PrefectException) as error:
            logger.debug("the server was not asked about a cancel: %s", error)
            return
        if state is not None and state.is_cancelling():
            driver.post(StopRequested(by="the Prefect UI"))

    return look
