"""The `mission` command.

Commands that need no Prefect server neither start one nor import Prefect: what needs it is imported
in the command that needs it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import App, Parameter

if TYPE_CHECKING:
    from flows.ledger.log import Record
    from flows.opening import Request
    from flows.running.memory import Entry

EXIT_INPUT, EXIT_BROKEN, EXIT_WAITS, EXIT_INTERRUPTED = 2, 3, 4, 130

HAND_OVER_SECONDS = 15.0

app = App(
    name="mission",
    help="Plan an objective into units, run agents on them in parallel, land only verified trees.",
    help_on_error=False,
    version=version("autonomous-dev-scheduler"),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)

MissionFile = Annotated[Path, Parameter(help="The mission file (TOML).")]
MissionName = Annotated[str | None, Parameter(help="A mission's id; absent means the newest one.")]
Sets = Annotated[
    list[str] | None,
    Parameter(name="--set", help="KEY=VALUE that replaces a setting, e.g. backend.slots=8."),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="JSON for programs.")]


@app.command
def run(
    mission_file: MissionFile = Path("mission.toml"),
    *,
    sets: Sets = None,
    as_json: AsJson = False,
    new: Annotated[
        bool, Parameter(negative="", help="Start another mission, resume none.")
    ] = False,
    restart_green: Annotated[
        bool, Parameter(negative="", help="Start green anew from base when the two diverged.")
    ] = False,
    allow_red_base: Annotated[
        bool, Parameter(negative="", help="Start although tests of the base fail; no others may.")
    ] = False,
    canary: Annotated[
        int | None, Parameter(help="Run so many units first, show what they did, and ask.")
    ] = None,
    detach: Annotated[
        bool, Parameter(negative="", help="Run it in the background; status and stop find it.")
    ] = False,
    mission_id: Annotated[
        str | None, Parameter(help="Id of a new mission, if not a made one.")
    ] = None,
) -> int:
    """Run a mission to its end; an unfinished one of the same name and repository goes on."""
    from flows.opening import Request

    options = [*(sets or [])]
    options += ["verify.allow_red_base=true"] if allow_red_base else []
    options += [] if canary is None else [f"review.canary={canary}"]
    request = Request(
        mission_file=mission_file,
        overrides=_overrides(options),
        mission=mission_id,
        new=new,
        restart_green=restart_green,
    )
    if detach:
        from flows.detaching import run_detached

        for line in run_detached(request, options):
            print(line)
        return 0
    return _run(request, as_json=as_json)


@app.command
def resume(
    mission: MissionName = None,
    *,
    mission_file: Annotated[
        Path | None, Parameter(help="A changed mission file: slots, limits, budget, places.")
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> int:
    """Go on with a mission that was interrupted, stopped, or ran into a limit."""
    from flows.home import home
    from flows.missions import newest, state_of
    from flows.opening import Request

    name = mission or newest(home())
    state_of(home(), name)
    overrides = _overrides(sets or [])
    request = Request(mission=name, mission_file=mission_file, overrides=overrides)
    return _run(request, as_json=as_json)


def _run(request: Request, *, as_json: bool) -> int:
    """Check the input, see to a server, run the flow here, and tell how it ended."""
    from dataclasses import replace

    from blocks.repository import forget_other_repositories
    from deployments.server import prefect_server
    from flows.home import home
    from flows.missions import has_begun
    from flows.opening import Request, identify, inspect_target
    from flows.preflight import check_mission, reach_places

    forget_other_repositories()
    mission, settings = identify(request, home())
    known = has_begun(home(), mission)
    checked = () if request.revert else check_mission(settings)
    for warning in (*checked, *(() if known else inspect_target(settings))):
        _say(f"warning: {warning}")
    _say(f"{'resuming' if known else 'starting'} mission {mission}")
    reach_places(settings)
    with prefect_server(home(), announce=_say):
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        code = _run_flow(replace(request, mission=mission), mission, as_json=as_json)
        while code == EXIT_WAITS and not as_json and _is_answered_here(mission):
            code = _run_flow(Request(mission=mission), mission, as_json=as_json)
    return code


def _is_answered_here(mission: str) -> bool:
    """Show a person what is asked and take the answer; where nobody sits, say how to give it."""
    from flows.home import home
    from flows.reviewing import answer, needed_review, review_text

    review = needed_review(home(), mission)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        _say(f"waiting for a review: `mission review {mission}` shows it and takes the answer")
        return False
    print(review_text(home(), review))
    try:
        said = input("go on with the rest? [yes/no, Enter: later] ").strip().lower()
    except EOFError:
        said = ""
    if said not in {"y", "yes", "n", "no"}:  # no word of theirs is no answer
        _say(f"not answered: `mission review {mission}` takes the answer")
        return False
    answer(home(), review, approve=said.startswith("y"), note="", by="the terminal")
    return True


def _run_flow(request: Request, mission: str, *, as_json: bool) -> int:
    from flows.mission import exit_code_of
    from flows.mission import mission as flow
    from flows.reporting.listeners import listening

    with ExitStack() as stack:
        stack.enter_context(listening(_view(stack, mission, as_json=as_json)))
        state = flow(
            mission_file=str(request.mission_file or ""),
            mission_id=mission,
            overrides=dict(request.overrides),
            new=request.new,
            restart_green=request.restart_green,
            revert=[*request.revert],
            return_state=True,
        )
    _hand_over()
    code = exit_code_of(state)
    if code in {EXIT_INPUT, EXIT_BROKEN}:
        _say(f"mission: {state.message}")
    elif not as_json:
        _conclude(mission)
    return code


def _hand_over() -> None:
    """Send what Prefect still holds back, before the server may go away."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=HAND_OVER_SECONDS)


def _view(stack: ExitStack, mission: str, *, as_json: bool) -> Callable[[Record], None]:
    from flows.home import home
    from flows.ledger.state import MissionState
    from flows.missions import folder_of, state_of
    from flows.reporting.terminal import json_lines, live_view, plain_lines

    if as_json:
        return json_lines(sys.stdout)
    if not sys.stdout.isatty():
        return plain_lines(sys.stdout)
    known = (folder_of(home(), mission) / "ledger.jsonl").exists()
    state = state_of(home(), mission) if known else MissionState()
    return stack.enter_context(live_view(state))


def _conclude(mission: str) -> None:
    """Say where the work is and how to look at it."""
    from flows.home import home
    from flows.missions import state_of
    from flows.reporting.status import closing_lines

    for line in closing_lines(mission, state_of(home(), mission)):
        print(line)


@app.command
def plan(
    mission_file: MissionFile = Path("mission.toml"),
    *,
    ask: Annotated[
        bool, Parameter(negative="", help="Have the planning agent plan now; this may cost money.")
    ] = False,
    write: Annotated[
        Path | None, Parameter(help="Write the plan to a file (.toml, .json, .md) to edit and run.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show the DAG, its critical path and the exact command of each agent; start nothing."""
    from blocks.errors import PlanInvalid
    from flows.planning.documents import check_new, write_plan
    from flows.planning.plan import Plan
    from flows.planning.preview import preview
    from flows.reporting.terminal import print_json
    from flows.settings_sources import load_settings

    if write is not None:
        check_new(write)  # before anybody is paid for what could not be kept
    shown = preview(load_settings(mission_file), ask=ask)
    if as_json:
        print_json(shown.as_json())
    else:
        print(shown.as_text())
    if write is not None and not shown.units:
        raise PlanInvalid("there is no unit to write; --ask has the planning agent plan now")
    if write is not None:
        write_plan(write, Plan(units=shown.units))
        _say(f'wrote {write}; run it with planner = "file", file = "{write.resolve()}"')
    return 0


@app.command
def status(mission: MissionName = None, *, as_json: AsJson = False) -> int:
    """Show where a mission stands, read from its ledger."""
    from flows.home import home
    from flows.missions import newest
    from flows.reporting.status import status_json, status_text
    from flows.reporting.terminal import print_json

    name = mission or newest(home())
    if as_json:
        print_json(status_json(home(), name))
    else:
        print(status_text(home(), name))
    return 0


@app.command
def history(*, as_json: AsJson = False) -> int:
    """List all missions, the newest first."""
    from flows.home import home
    from flows.missions import summaries
    from flows.reporting.status import history_json, history_text
    from flows.reporting.terminal import print_json

    found = [*summaries(home())]
    if as_json:
        print_json(history_json(found))
    else:
        print(history_text(found))
    return 0


@app.command
def stop(
    mission: MissionName = None,
    *,
    reason: Annotated[str, Parameter(help="Why; kept in the ledger.")] = "",
    timeout: Annotated[float, Parameter(help="Seconds to wait until it has ended.")] = 60.0,
) -> int:
    """Stop a running mission: agents end, landed work is kept; `resume` goes on with it."""
    from flows.home import home
    from flows.missions import is_driven, newest, send, state_of

    name = mission or newest(home())
    state = state_of(home(), name)
    if not is_driven(home(), name):
        how = f"finished ({state.finished.stop_reason})" if state.finished else "not running"
        print(f"{name} is {how}; there is nothing to stop")
        return 0
    send(home(), name, {"command": "stop", "by": "mission stop", "reason": reason})
    deadline = time.monotonic() + timeout
    while is_driven(home(), name):
        if time.monotonic() > deadline:
            _say(f"{name} has not ended within {timeout:.0f} s; it will when its agents have")
            return EXIT_BROKEN
        time.sleep(0.1)
    print(f"{name} has stopped")
    return 0


@app.command
def review(
    mission: MissionName = None,
    *,
    approve: Annotated[bool, Parameter(negative="", help="Go on with the rest.")] = False,
    reject: Annotated[bool, Parameter(negative="", help="End it; what landed stays.")] = False,
    note: Annotated[str, Parameter(help="Why; kept in the ledger.")] = "",
) -> int:
    """Show what a mission asks a person, and answer it; `resume` goes on after that."""
    from blocks.errors import SettingsInvalid
    from flows.home import home
    from flows.missions import newest
    from flows.reviewing import answer, needed_review, review_text

    name = mission or newest(home())
    asked = needed_review(home(), name)
    if approve and reject:
        raise SettingsInvalid("--approve and --reject: say one of them")
    if not (approve or reject):
        print(review_text(home(), asked))
        _say(f"answer with `mission review {name} --approve` or `--reject`")
        return EXIT_WAITS
    answer(home(), asked, approve=approve, note=note, by="mission review")
    if approve:
        print(f"approved; `mission resume {name}` goes on")
    else:
        print(f"rejected; `mission resume {name}` ends it. What landed stays on green;")
        print("`mission revert UNIT` takes it out again")
    return 0


@app.command
def revert(
    unit: Annotated[str, Parameter(help="The id of a landed unit.")],
    mission_file: MissionFile = Path("mission.toml"),
    *,
    as_json: AsJson = False,
) -> int:
    """Take a landed unit out of green again; that is verified and lands like any other work."""
    from flows.home import home
    from flows.missions import is_driven, send, unfinished
    from flows.opening import Request
    from flows.settings_sources import load_settings

    settings = load_settings(mission_file)
    going = unfinished(home(), settings.name, settings.repository.url)
    if going is None:
        request = Request(mission_file=mission_file, revert=(unit,), new=True)
        return _run(request, as_json=as_json)
    send(home(), going, {"command": "revert", "unit": unit, "by": "mission revert"})
    if is_driven(home(), going):
        print(f"{going} takes {unit} out; see `mission status {going}`")
        return 0
    _say(f"{going} is unfinished: it goes on, and takes {unit} out")
    return _run(Request(mission=going), as_json=as_json)


@app.command
def memory(
    mission_file: MissionFile = Path("mission.toml"),
    *,
    forget: Annotated[str | None, Parameter(help="The id of an entry to remove for good.")] = None,
    edit: Annotated[
        tuple[str, str] | None, Parameter(help="The id of an entry, and what it says from now on.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what units reported of a repository and later ones are told, the newest first."""
    from flows.home import home
    from flows.opening import repository_path
    from flows.reporting.status import memory_json, memory_text
    from flows.reporting.terminal import print_json
    from flows.running.memory import Memory
    from flows.settings_sources import load_settings

    url = load_settings(mission_file).repository.url
    kept = Memory.beside(repository_path(home(), url))
    if forget is not None:
        _known(forget, kept.forget(forget))
    if edit is not None:
        _known(edit[0], kept.edit(*edit))
    if as_json:
        print_json(memory_json(kept.entries()))
    else:
        print(memory_text(kept.entries()))
    return 0


def _known(entry_id: str, changed: Entry | None) -> None:
    from blocks.errors import SettingsInvalid

    if changed is None:
        raise SettingsInvalid(f"no entry has the id {entry_id!r}; `mission memory` shows them")


@app.command
def report(mission: MissionName = None) -> int:
    """Tell a mission in Markdown, from the metrics: what landed, what was refused and why."""
    from flows.home import home
    from flows.missions import newest, state_of
    from flows.reporting.metrics import report_of

    name = mission or newest(home())
    state_of(home(), name)
    print(report_of(home(), name))
    return 0


@app.command
def metrics(
    *,
    rebuild: Annotated[bool, Parameter(negative="", help="Make the file anew.")] = False,
) -> int:
    """Bring the DuckDB file up to date with all ledgers and say where it is."""
    from flows.home import home
    from flows.reporting.metrics import metrics_file, sync_all

    result = sync_all(home(), anew=rebuild)
    print(f"{metrics_file(home())}: {result.n_records} new records")
    for mission, why in result.unreadable.items():
        _say(f"warning: {mission} was left out: {why}")
    return 0


@app.command
def doctor(mission_file: MissionFile = Path("mission.toml"), *, as_json: AsJson = False) -> int:
    """Say what is missing on each place, for each agent and the repository; run nothing."""
    from flows.preflight import examine
    from flows.reporting.status import checks_text
    from flows.reporting.terminal import print_json

    checks = examine(mission_file)
    if as_json:
        print_json([{"what": c.what, "ok": c.ok, "detail": c.detail} for c in checks])
    else:
        print(checks_text(checks))
    return 0 if all(c.ok for c in checks) else EXIT_INPUT


@app.command
def init(folder: Path = Path()) -> int:
    """Write a mission file for a repository: what its checks are is found out, then tried."""
    from flows.initialising import initialise

    for line in initialise(folder):
        print(line)
    return 0


@app.command
def serve(
    *,
    port: Annotated[int | None, Parameter(help="The UI's port; absent: any free one.")] = None,
) -> int:
    """Start server and worker and deploy the flows, so that missions start from the UI."""
    from deployments.serve import serve as serve_all
    from flows.home import home

    serve_all(home(), port=port)
    return 0


def _overrides(sets: Sequence[str]) -> dict[str, Any]:
    """Turn `backend.slots=8` into nested settings; values are TOML, or else plain text."""
    from blocks.errors import SettingsInvalid

    nested: dict[str, Any] = {}
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise SettingsInvalid(f"--set {item}: write KEY=VALUE, e.g. backend.slots=8")
        *tables, name = key.strip().split(".")
        table = nested
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = _value(text)
    return nested


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _say(text: str) -> None:
    """Tell the person at the terminal something that is no result."""
    from flows.prompts.quoting import readable

    print(readable(text), file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C, so that what was started is ended too."""
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; a person's mistake gets a line, not a traceback."""
    from blocks.errors import MissionError, NotNow, Refused

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(sys.argv[1:] if argv is None else argv)
    except cyclopts.CycloptsError as error:
        _say(f"mission: {str(error).strip()}; see `mission --help`")
        code = EXIT_INPUT
    except (Refused, NotNow) as error:
        _say(f"mission: {error}")
        code = EXIT_INPUT
    except MissionError as error:
        _say(f"mission: {error}")
        code = EXIT_BROKEN
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        _say("interrupted")
        code = EXIT_INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)
