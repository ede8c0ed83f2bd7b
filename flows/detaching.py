"""A mission in the background: a process of its own that outlives the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from blocks.errors import MissionActive, Refused, ServerUnavailable
from flows.decisions import EXIT_INPUT
from flows.home import home
from flows.missions import folder_of, has_begun, is_driven
from flows.opening import Request, identify
from flows.preflight import check_mission

TOLD_CHARACTERS = 2_000

COMMAND = (sys.executable, "-c", "from flows.cli import main; main()")

BEGIN_SECONDS = 120.0
"""How long the server and the target may take until a mission has begun."""


def run_detached(request: Request, options: Sequence[str]) -> tuple[str, ...]:
    """Start `mission run` in the background; return when it has begun, with lines for people.

    Raises:
        SettingsInvalid, PlanInvalid: the input is wrong.
        MissionActive: it runs already.
        ServerUnavailable: it did not begin; the end of its output says why.
    """
    mission, settings = identify(request, home())
    if is_driven(home(), mission):  # what its driver writes would look as if another had begun
        raise MissionActive(f"{mission} runs already; `mission stop {mission}` ends it")
    check_mission(settings)
    folder = folder_of(home(), mission)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    output = folder / "output.log"
    with output.open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, *_arguments(request, mission, options)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        begun = _has_begun(process, mission)
    except KeyboardInterrupt:
        process.terminate()
        raise
    if not begun:
        said = output.read_text(errors="replace").strip()[-TOLD_CHARACTERS:]
        why = f"{mission} did not begin; {output} ends with:\n{said}"
        raise Refused(why) if process.poll() == EXIT_INPUT else ServerUnavailable(why)
    return (
        f"{mission} runs in the background (process {process.pid}); its output: {output}",
        f"  mission status {mission}",
        f"  mission stop {mission}",
    )


def _arguments(request: Request, mission: str, options: Sequence[str]) -> list[str]:
    flags = [flag for flag, is_set in (("--restart-green", request.restart_green),) if is_set]
    sets = [word for option in options for word in ("--set", option)]
    if has_begun(home(), mission):
        return ["resume", mission, "--mission-file", str(request.mission_file), *sets]
    return ["run", str(request.mission_file), "--mission-id", mission, *flags, *sets]


def _has_begun(process: subprocess.Popen[bytes], mission: str) -> bool:
    """Wait until a mission has begun, or cannot any more."""
    before = _size(mission)
    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline:
        if _size(mission) > before:
            return True
        if process.poll() is not None:
            return _size(mission) > before
        time.sleep(0.1)
    return False


def _size(mission: str) -> int:
    """How much a mission's ledger holds; it grows when a driver begins."""
    path = folder_of(home(), mission) / "ledger.jsonl"
    return path.stat().st_size if path.exists() else 0
