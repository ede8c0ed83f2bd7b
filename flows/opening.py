"""Opening a mission: its settings, its target, its place in `MISSION_HOME`, new or resumed.

Everything that can be refused is refused here, before an agent runs and before the ledger says a
word. Nothing in this module needs Prefect.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blocks.errors import (
    CannotMerge,
    MissionActive,
    RepositoryUnusable,
    SettingsInvalid,
)
from blocks.repository import IntegrationRepository, look_at, remote_branches
from flows.human_input import did_you_mean
from flows.landing.delivery import SAVED_REFS, fallback_branch
from flows.ledger.events import MissionResumed, MissionStarted, Warned
from flows.ledger.log import Ledger, Record
from flows.ledger.state import MissionState, fold
from flows.missions import folder_of, has_begun, unfinished
from flows.settings import MissionSettings, changed_keys, may_change_on_resume
from flows.settings_sources import load_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person, a schedule or the UI asks for."""

    mission_file: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mission: str | None = None
    flow_run: str | None = None
    new: bool = False
    restart_green: bool = False
    revert: tuple[str, ...] = ()  # landed units to take out, and nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target repository as it was found, and where the mission starts from."""

    url: str
    base: str
    start: str
    green_there: str | None
    branch: str
    restarted: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A mission that may be driven: its ledger is held, its repository is locked."""

    id: str
    folder: Path
    settings: MissionSettings
    ledger: Ledger
    state: MissionState
    repository: IntegrationRepository
    key: str
    green_ref: str
    branch: str
    resumed: bool


@contextmanager
def opened_mission(
    request: Request, home: Path, *, on_append: Callable[[Record], None]
) -> Iterator[Opened]:
    """Open a mission, new or resumed, and hold it.

    Raises:
        SettingsInvalid, RepositoryUnusable, CannotMerge: the input is wrong.
        MissionActive: another process drives it, or another mission of the same green branch.
    """
    mission, settings = identify(request, home)
    url, green = settings.repository.url, settings.repository.green
    key, folder = repository_key(url), folder_of(home, mission)
    with held_green(home, key, green, mission):
        repository = IntegrationRepository(repository_path(home, url))
        try:
            resumed = has_begun(home, mission)
            target = None if resumed else survey(settings, repository, request.restart_green)
            with Ledger(folder / "ledger.jsonl", on_append=on_append) as ledger:
                if target is not None:
                    _begin(ledger, mission, settings, target, request.revert)
                else:
                    _resume(ledger, settings)
                state = fold(ledger.records)
                yield Opened(
                    id=mission,
                    folder=folder,
                    settings=settings,
                    ledger=ledger,
                    state=state,
                    repository=repository,
                    key=f"{key}-{_slug(green)}",
                    green_ref=f"refs/heads/{green}",
                    branch=_delivery_branch(settings, mission),
                    resumed=resumed,
                )
        finally:
            repository.close()


def identify(request: Request, home: Path) -> tuple[str, MissionSettings]:
    """Find the mission that a request means, or name a new one; settings as they will hold.

    Raises:
        SettingsInvalid: the file is wrong, or a resume would change what is frozen.
    """
    if request.mission is not None and has_begun(home, request.mission):
        return request.mission, _resumed_settings(request, home, request.mission)
    if request.mission_file is None:
        raise SettingsInvalid(f"there is no mission {request.mission!r}; see `mission history`")
    settings = load_settings(request.mission_file, overrides=request.overrides)
    if request.mission is not None:
        return request.mission, settings
    if request.flow_run is not None:  # a retry of a flow run goes on with what it began
        mission = new_id(settings.name, request.flow_run)
        if has_begun(home, mission):
            return mission, _resumed_settings(request, home, mission)
    earlier = None if request.new else unfinished(home, settings.name, settings.repository.url)
    if earlier is not None:
        return earlier, _resumed_settings(request, home, earlier)
    return new_id(settings.name, request.flow_run), settings


def new_id(name: str, flow_run: str | None = None) -> str:
    """A new mission's id: its name, and when it began or which flow run began it."""
    if flow_run is not None:
        return f"{_slug(name)}-{flow_run[:8]}"
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{_slug(name)}-{now}-{secrets.token_hex(2)}"


def repository_key(url: str) -> str:
    """A folder name for a target: readable, and different for different targets."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return f"{_slug(Path(url).stem or 'target')}-{digest}"


def repository_path(home: Path, url: str) -> Path:
    """Where a target's integration repository is; what is kept of the target lies beside it."""
    return home / "repositories" / f"{repository_key(url)}.git"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:48] or "mission"


def _resumed_settings(request: Request, home: Path, mission: str) -> MissionSettings:
    """Frozen settings, with what a resume may change taken from the request."""
    from flows.missions import state_of  # noqa: PLC0415 - reads whole ledgers; only resuming needs it

    frozen = MissionSettings.model_validate(state_of(home, mission).settings)
    if request.mission_file is None and not request.overrides:
        return frozen
    if request.mission_file is None:
        raise SettingsInvalid("to change settings at a resume, name the mission file as well")
    wanted = load_settings(request.mission_file, overrides=request.overrides)
    forbidden = [k for k in changed_keys(frozen, wanted) if not may_change_on_resume(k)]
    if forbidden:
        keys = ", ".join(forbidden)
        why = f"mission {mission} is unfinished and cannot change {keys} any more"
        raise SettingsInvalid(f"{why}; put it back, or start another one with --new")
    return wanted


def _begin(
    ledger: Ledger,
    mission: str,
    settings: MissionSettings,
    target: Target,
    reverts: tuple[str, ...],
) -> None:
    started = MissionStarted(
        mission=mission,
        name=settings.name,
        objective=settings.objective,
        repository=target.url,
        base_branch=settings.repository.base,
        base=target.base,
        green_branch=settings.repository.green,
        start=target.start,
        settings=settings.model_dump(mode="json", by_alias=True),
        version=version("autonomous-dev-scheduler"),
        restarted_green=target.restarted,
        reverts=reverts,
    )
    ledger.append(started, *(Warned(text=text) for text in target.warnings))


def _resume(ledger: Ledger, settings: MissionSettings) -> None:
    frozen = MissionSettings.model_validate(fold(ledger.records).settings)
    ledger.append(
        MissionResumed(
            pid=os.getpid(),
            settings=settings.model_dump(mode="json", by_alias=True),
            changed=changed_keys(frozen, settings),
        )
    )


# -- the target -------------------------------------------------------------------------------


def survey(
    settings: MissionSettings, repository: IntegrationRepository, restart_green: bool
) -> Target:
    """Look at the target, fetch what is needed, and find where the mission starts.

    Raises:
        RepositoryUnusable: it is none, empty, shallow, has submodules or LFS, or lacks the base.
        CannotMerge: base and green diverged and do not merge; `files` names them.
    """
    url, base, green = settings.repository.url, settings.repository.base, settings.repository.green
    warnings = inspect_target(settings)
    there = repository.fetch(url, [base, green])
    if base not in there:
        raise RepositoryUnusable(f"{url}: branch {base} could not be fetched whole")
    _refuse_contents(repository, there[base], url)
    start, restarted = _start(repository, settings, there[base], there.get(green), restart_green)
    return Target(
        url=url,
        base=there[base],
        start=start,
        green_there=there.get(green),
        branch=green,
        restarted=restarted,
        warnings=warnings,
    )


def inspect_target(settings: MissionSettings) -> tuple[str, ...]:
    """Look at the target without fetching; returns warnings.

    Raises:
        RepositoryUnusable: nothing can be done with it; says what and how to mend it.
    """
    url, base = settings.repository.url, settings.repository.base
    warnings: list[str] = []
    if Path(url).is_absolute() and not Path(url).exists():
        raise RepositoryUnusable(f"there is nothing at {url}; mend [repository] url")
    if "://" not in url and Path(url).exists():
        checkout = look_at(Path(url))
        if checkout.is_shallow:
            raise RepositoryUnusable(f"{url} is a shallow clone; `git fetch --unshallow` it first")
        if checkout.is_dirty:
            warnings.append(f"{url} has uncommitted changes; missions work from commits")
    branches = remote_branches(url)
    if not branches:
        raise RepositoryUnusable(f"{url} has no commit yet; make one first")
    if base not in branches:
        hint = did_you_mean(base, branches)
        raise RepositoryUnusable(f"{url} has no branch {base!r}{hint}; mend [repository] base")
    return tuple(warnings)


def _refuse_contents(repository: IntegrationRepository, base: str, url: str) -> None:
    if repository.show(base, ".gitmodules") is not None:
        raise RepositoryUnusable(f"{url} has submodules, which are not supported yet")
    attributes = repository.show(base, ".gitattributes") or b""
    if b"filter=lfs" in attributes:
        raise RepositoryUnusable(f"{url} uses Git LFS, which is not supported yet")


def _start(
    repository: IntegrationRepository,
    settings: MissionSettings,
    base: str,
    green: str | None,
    restart_green: bool,
) -> tuple[str, bool]:
    """Where the mission starts, and whether green leaves its line for it."""
    if green is None or repository.is_ancestor(green, base):
        return base, False
    if repository.is_ancestor(base, green):
        return green, False
    name = settings.repository.green
    if restart_green:
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        repository.save_ref(f"{SAVED_REFS}/{name}-{stamp}", green)
        return base, True
    message = f"Merge {settings.repository.base} into {name}\n"
    try:
        tip = repository.merge(green, base, message, base="", keep_history=True)
    except CannotMerge as clash:
        why = f"{name} and {settings.repository.base} diverged in {', '.join(clash.files)}"
        mend = f"merge them yourself, or give up what is on {name} with --restart-green"
        raise CannotMerge(clash.files, f"{why}; {mend}") from clash
    return tip.commit, False


def _delivery_branch(settings: MissionSettings, mission: str) -> str:
    """`green`, or another name when it is checked out at the target."""
    url, green = settings.repository.url, settings.repository.green
    if "://" not in url and Path(url).exists() and green in look_at(Path(url)).branches:
        return fallback_branch(green, mission)
    return green


@contextmanager
def held_green(home: Path, key: str, green: str, mission: str) -> Iterator[None]:
    """Hold the lock of one (repository, green): one active mission at a time.

    Raises:
        MissionActive: another mission holds it; it is named.
    """
    path = home / "repositories" / f"{key}-{_slug(green)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise MissionActive(_holder(path, green)) from held
        file.truncate(0)
        file.write(json.dumps({"mission": mission, "pid": os.getpid(), "since": time.time()}))
        file.flush()
        yield


def _holder(path: Path, green: str) -> str:
    try:
        holder = json.loads(path.read_text())
    except ValueError:
        return f"{green} is held by another process"
    who = f"{green} is held by mission {holder['mission']} (process {holder['pid']})"
    return f"{who}; wait for it, or `mission stop {holder['mission']}`"
