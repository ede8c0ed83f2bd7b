"""The `mission` flow: from an objective to verified commits on `green`.

1. Open: settings, target, locks, ledger. A ledger that is there already is gone on with, so that a
   retry, a re-run or a resume of this flow never starts over.
2. Drive: rounds of plan, run, land. Every step is in the ledger before its effect; attempts and
   probes are task runs of this flow, submitted when they may start.
3. Project: metrics and artifacts are made from the ledger and can be made again at will.
"""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from blocks.errors import MissionError, NotNow, Refused
from blocks.places.backends import LocalBackend, SSHBackend
from blocks.places.place import Place
from blocks.repository import forget_other_repositories
from flows.decisions import EXIT_BROKEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_WAITS
from flows.driver import Driver, Interrupt
from flows.hands import PrefectHands
from flows.home import home
from flows.landing.delivery import Deliverer, fallback_branch, notes_ref
from flows.landing.probing import memory_of
from flows.ledger.log import Record
from flows.opening import Opened, Request, opened_mission
from flows.reporting.artifacts import publish_report, published
from flows.reporting.listeners import tell
from flows.reporting.narration import STEPS, narrate, tally
from flows.reporting.projection import project
from flows.running.accounts import Accounts
from flows.running.bench import Bench
from flows.running.purse import Purse
from flows.secrets import fetch_secrets
from flows.settings import MissionSettings
from flows.watching import watched

logger = logging.getLogger(__name__)

Backend = LocalBackend | SSHBackend

INPUT_IS_WRONG = frozenset({"Refused", "Red base"})
"""The names of failed states that a person mends in the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How this run of the flow ended; `exit_code` as for the `mission` command."""

    name: str
    message: str
    exit_code: int


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    return parameters.get("mission_id") or Path(parameters.get("mission_file") or "mission").stem


@flow(name="mission", flow_run_name=_run_name, persist_result=False)
def mission(
    mission_file: str,
    backend: LocalBackend | SSHBackend | None = None,
    mission_id: str | None = None,
    overrides: dict[str, Any] | None = None,
    new: bool = False,
    restart_green: bool = False,
    revert: list[str] | None = None,
) -> State[int]:
    """Work on a repository until an objective is met; only verified trees reach `green`.

    Args:
        mission_file: Path of the mission file (TOML) on the machine where this flow runs.
        backend: Where agents run; absent means what the mission file says.
        mission_id: The mission to go on with; absent means the unfinished one, or a new one.
        overrides: Settings that replace those of the file, nested as there.
        new: Start another mission even if an unfinished one could be gone on with.
        restart_green: Start `green` anew from the base branch when the two diverged.
        revert: Landed units to take out of `green` again; then nothing else is done.
    """
    request = Request(
        mission_file=Path(mission_file) if mission_file else None,
        overrides=overrides or {},
        mission=mission_id,
        flow_run=str(runtime.flow_run.id),
        new=new,
        restart_green=restart_green,
        revert=tuple(revert or ()),
    )
    return _state(drive(request, backend))


def drive(request: Request, backend: Backend | None) -> Ending:
    """Drive a mission; what a person can mend becomes an ending, not a traceback."""
    forget_other_repositories()
    try:
        with opened_mission(request, home(), on_append=_tell) as opened:
            return _drive(opened, backend)
    except MissionError as error:
        if isinstance(error, Refused | NotNow):
            return Ending(name="Refused", message=str(error), exit_code=EXIT_INPUT)
        return Ending(name="Broken", message=str(error), exit_code=EXIT_BROKEN)


def _tell(record: Record) -> None:
    level = logging.DEBUG if isinstance(record.event, STEPS) else logging.INFO
    if logger.isEnabledFor(level) and (line := narrate(record.event)):
        logger.log(level, "%s", line, extra={"action": record.event.type})
    tell(record)


def _drive(opened: Opened, backend: Backend | None) -> Ending:
    settings = opened.settings
    backend = backend or backend_of(settings)
    with ExitStack() as stack:
        places = {place.name: place for place in backend.places()}
        for place in places.values():
            stack.callback(place.close)
        driver = _driver(opened, places, backend)
        driver.deliverer.start()
        stack.callback(driver.deliverer.close)
        stack.enter_context(watched(driver, opened.folder))
        stack.enter_context(published(opened.id, opened.state))
        stack.enter_context(_signals(driver))
        driver.run()
    if report := project(home(), opened.id):
        publish_report(report)
    return _ending(opened)


def backend_of(settings: MissionSettings) -> Backend:
    """The backend that a mission's settings describe, or the stored block that they name.

    Raises:
        SettingsInvalid: there is no such block.
    """
    wanted = settings.backend
    if wanted.block:
        return load_backend(wanted.block)
    if wanted.kind == "ssh":
        return SSHBackend(
            hosts=list(wanted.hosts),
            slots=wanted.slots,
            lease_seconds=wanted.lease,
            root=str(wanted.root) if wanted.root else None,
            config_file=wanted.config,
        )
    return LocalBackend(
        slots=wanted.slots,
        lease_seconds=wanted.lease,
        root=Path(wanted.root) if wanted.root else home() / "places" / "local",
    )


def load_backend(name: str) -> Backend:
    """Load a stored backend block, named as `type-slug/name`."""
    slug, _, document = name.partition("/")
    kinds: dict[str, type[Backend]] = {
        "local-backend": LocalBackend,
        "ssh-backend": SSHBackend,
    }
    if slug not in kinds or not document:
        known = ", ".join(f"{kind}/NAME" for kind in kinds)
        raise Refused(f"[backend] block = {name!r}: expected one of {known}")
    try:
        loaded = kinds[slug].load(document)
    except ValueError as missing:
        raise Refused(f"[backend] block = {name!r}: {missing}") from missing
    if not isinstance(loaded, LocalBackend | SSHBackend):
        raise Refused(f"[backend] block = {name!r} is no backend")
    return loaded


def _driver(opened: Opened, places: dict[str, Place], backend: Backend) -> Driver:
    # The bench asks the driver whether it is stopping, the hands post to it: both know it late.
    holder: list[Driver] = []
    bench = Bench(
        mission=opened.id,
        folder=opened.folder,
        repository=opened.repository,
        places=places,
        settings=opened.settings,
        key=opened.key,
        secrets=fetch_secrets(opened.settings),
        is_stopping=lambda: bool(holder) and holder[0].is_stopping,
    )
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    started = opened.state.started
    start = started.start if started else ""
    deliverer = Deliverer(
        repository=opened.repository,
        url=opened.settings.repository.url,
        branch=opened.branch,
        fallback=fallback_branch(opened.settings.repository.green, opened.id),
        report=inbox.put,
        also=(notes_ref(opened.id),),
    )
    hands = PrefectHands(bench, memory_of(bench))
    driver = Driver(
        ledger=opened.ledger,
        state=opened.state,
        settings=opened.settings,
        bench=bench,
        deliverer=deliverer,
        hands=hands,
        slots=dict.fromkeys(places, backend.slots),
        green_ref=opened.green_ref,
        green_before=opened.repository.resolve(opened.green_ref),
        start_tree=opened.repository.tree_of(start),
        purse=Purse(
            mission=opened.id,
            settings=opened.settings,
            accounts=Accounts(home() / "accounts"),
        ),
        inbox=inbox,
    )
    hands.driver = driver
    holder.append(driver)
    return driver


@contextmanager
def _signals(driver: Driver) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the driver in good order; a second one at once."""
    asked: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        driver.post(Interrupt(signal.Signals(number).name))

    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.enter_context(_handled(number, interrupt))
        yield


@contextmanager
def _handled(number: int, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    try:
        before = signal.signal(number, handler)
    except ValueError:  # not in the main thread: whoever owns the process stops us by the inbox
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _ending(opened: Opened) -> Ending:
    finished = opened.state.finished
    waits = [review for review, answer in opened.state.reviews.items() if not answer]
    if finished is None and waits:
        how = f"`mission review {opened.id}` shows what it is about and takes the answer"
        return Ending(name="AwaitingReview", message=how, exit_code=EXIT_WAITS)
    if finished is None:
        return Ending(name="Interrupted", message="can be resumed", exit_code=EXIT_INTERRUPTED)
    message = f"{finished.stop_reason}: {tally(finished.counts)}"
    if finished.detail:
        message = f"{message}\n{finished.detail}"
    name = finished.stop_reason.capitalize()
    if finished.exit_code == EXIT_INPUT and name not in INPUT_IS_WRONG:
        name = "Refused"
    return Ending(name=name, message=message, exit_code=finished.exit_code)


def _state(ending: Ending) -> State[int]:
    """The flow run's final state: its name tells the verdict, its result is the exit code."""
    if ending.exit_code == EXIT_INTERRUPTED:
        return Cancelled(name=ending.name, message=ending.message)
    if ending.exit_code in {EXIT_INPUT, EXIT_BROKEN}:
        return Failed(name=ending.name, message=ending.message)
    return Completed(name=ending.name, message=ending.message, data=ending.exit_code)


def exit_code_of(state: State[Any]) -> int:
    """What the `mission` command exits with after a run of this flow that ended in `state`."""
    if state.is_cancelled():
        return EXIT_INTERRUPTED
    if state.is_completed():
        return int(state.result())
    return EXIT_INPUT if state.name in INPUT_IS_WRONG else EXIT_BROKEN
