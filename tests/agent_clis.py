"""Real agent CLIs for tests: found, not installed; run with a scripted model, without an account.

A CLI is looked for in the folder that `MISSION_TEST_CLIS` names (say
`<folder>/node_modules/.bin` of an npm install), then on PATH. Each run has folders of its own for
HOME, temporary files and workspace, an environment made from nothing, and a key that is no key.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.missions import git, make_repository
from tests.model_server import (
    Decline,
    Dropped,
    ModelServer,
    Nonsense,
    Overloaded,
    RateLimit,
    Say,
    Shell,
    Turn,
    UsageLimit,
    Write,
    scripted_models,
)

FOLDER = "MISSION_TEST_CLIS"
PROMPT = "Write hello into note.txt and commit it.\n"
RESULT = 'Done.\nMISSION_RESULT: {"summary": "added a note", "commits": []}'
RUN_SECONDS = 90.0

_KEY = "not-a-key"
_PLAN_TOKEN = "sk-ant-oat01-not-a-token"  # its form says that a plan pays, not a key

NOTE = (
    Write("note.txt", "hello\n"),
    Shell("git add note.txt && git commit -q -m 'Add a note'"),
    Say(RESULT),
)
"""A model that does what `PROMPT` asks."""


@dataclass(frozen=True, slots=True)
class Site:
    """The folders of one run."""

    root: Path

    @property
    def workspace(self) -> Path:
        """A repository with one commit."""
        return self.root / "workspace"

    @property
    def home(self) -> Path:
        """The HOME of the child; nothing of ours is in it."""
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        """The TMPDIR of the child."""
        return self.root / "tmp"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a CLI left: exit code, output, the requests it made, what the workspace has."""

    exit_code: int
    stdout: str
    stderr: str
    models: ModelServer
    site: Site

    def subjects(self) -> list[str]:
        """Subjects of the commits, newest first."""
        return git(self.site.workspace, "log", "--format=%s").splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """How one CLI runs unattended; `argv` without the program, prompt on stdin."""

    name: str
    package: str
    argv: Callable[[str], Sequence[str]]
    environment: Callable[[str, Site], Mapping[str, str]]

    def path(self) -> Path | None:
        """Return where the program is, None when it is not installed."""
        folders = [os.environ.get(FOLDER, ""), os.environ.get("PATH", "")]
        found = shutil.which(self.name, path=os.pathsep.join(filter(None, folders)))
        return Path(found) if found else None

    @property
    def skip_reason(self) -> str:
        """The sentence that says how to have it."""
        return (
            f"needs {self.name}: npm install --prefix FOLDER {self.package}, "
            f"{FOLDER}=FOLDER/node_modules/.bin"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the model does in one run, and how the CLI must end."""

    script: Sequence[Turn]
    exit_code: int = 0
    argv: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    is_committed: bool = True


def run(cli: Cli, case: Case, root: Path) -> Ran:
    """Run a CLI on a case to its end, in folders under `root`, which must not exist."""
    with started(cli, case, root) as running:
        exit_code = running.process.wait(timeout=RUN_SECONDS)
    output, errors = running.stdout.read_text(), running.stderr.read_text()
    return Ran(exit_code, output, errors, running.models, running.site)


@dataclass(frozen=True, slots=True)
class Running:
    """A CLI at work, and the files that its output goes to."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    models: ModelServer
    site: Site


@contextmanager
def started(cli: Cli, case: Case, root: Path) -> Iterator[Running]:
    """Start a CLI on a case; at the end its whole process group is killed."""
    site, program = Site(root), cli.path()
    assert program is not None, cli.skip_reason
    make_repository(site.workspace, {"README.md": "A workspace.\n"})
    site.home.mkdir()
    site.temporary.mkdir()
    prompt, stdout, stderr = root / "prompt", root / "stdout", root / "stderr"
    prompt.write_text(PROMPT)
    with (
        scripted_models(case.script) as models,
        prompt.open("rb") as given,
        stdout.open("wb") as output,
        stderr.open("wb") as errors,
    ):
        process = subprocess.Popen(
            [program, *cli.argv(models.url), *case.argv],
            cwd=site.workspace,
            env={**environment(cli, models, site), **case.environment},
            stdin=given,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            yield Running(process, stdout, stderr, models, site)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(cli: Cli, models: ModelServer, site: Site) -> dict[str, str]:
    """Make the child's environment from nothing; whatever wants out asks `models` as its proxy."""
    node = shutil.which("node")
    folders = [*([str(Path(node).parent)] if node else []), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": os.pathsep.join(folders),
        "HOME": str(site.home),
        "TMPDIR": str(site.temporary),
        "LANG": "C.UTF-8",
        "GIT_AUTHOR_NAME": "Agent",
        "GIT_AUTHOR_EMAIL": "agent@example.invalid",
        "GIT_COMMITTER_NAME": "Agent",
        "GIT_COMMITTER_EMAIL": "agent@example.invalid",
        "HTTP_PROXY": models.url,
        "HTTPS_PROXY": models.url,
        "NO_PROXY": "127.0.0.1,localhost",
        **cli.environment(models.url, site),
    }


def neutral(text: str, ran: Ran) -> str:
    """Put neutral paths and one port in the place of those of this run."""
    site = ran.site
    pairs = (
        (str(site.workspace), "/workspace"),
        (str(site.home), "/home/agent"),
        (str(site.temporary), "/tmp"),
        (str(site.workspace).replace("/", "-").replace("_", "-"), "-workspace"),
        (ran.models.url, "http://127.0.0.1:8000"),
        (ran.models.url.removeprefix("http://"), "127.0.0.1:8000"),
    )
    for mine, anyone in pairs:
        text = text.replace(mine, anyone)
    return text


def _claude_argv(url: str) -> list[str]:
    return [
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",  # stream-json demands it
        "--permission-mode",
        "bypassPermissions",
        "--model",
        "claude-sonnet-5-5",
        "--strict-mcp-config",
    ]


def _claude_environment(url: str, site: Site) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": _KEY,
        "IS_SANDBOX": "1",  # else it refuses bypassPermissions to root
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }


def _codex_argv(url: str) -> list[str]:
    provider = {
        "name": '"scripted"',
        "base_url": f'"{url}/v1"',
        "env_key": '"SCRIPTED_API_KEY"',
        "wire_api": '"responses"',
        "request_max_retries": "0",
        "stream_max_retries": "1",
    }
    settings = {
        "model_provider": '"scripted"',
        "sandbox_mode": '"danger-full-access"',
        "approval_policy": '"never"',
        "analytics.enabled": "false",
        "check_for_update_on_startup": "false",
        "features.plugins": "false",  # else it asks github.com and chatgpt.com for them
        **{f"model_providers.scripted.{name}": value for name, value in provider.items()},
    }
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return ["exec", "--json", "--skip-git-repo-check", "-m", "gpt-6.1-sol", *flags, "-"]


def _codex_environment(url: str, site: Site) -> dict[str, str]:
    folder = site.home / ".codex"
    folder.mkdir(exist_ok=True)  # it makes all but this one
    return {"CODEX_HOME": str(folder), "SCRIPTED_API_KEY": _KEY}


def _opencode_argv(url: str) -> list[str]:
    return ["run", "--format", "json", "--auto", "--title", "note", "-m", "scripted/scripted-1"]


def _opencode_environment(url: str, site: Site) -> dict[str, str]:
    model = {
        "name": "Scripted",
        "limit": {"context": 200_000, "output": 8_000},
        "cost": {"input": 1, "output": 2},  # dollars per million tokens; without it, cost is 0
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",  # is in the program
        "options": {"baseURL": f"{url}/v1", "apiKey": "{env:SCRIPTED_API_KEY}"},
        "models": {"scripted-1": model},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "provider": {"scripted": provider},
    }
    # It would npm install its plugin API into each configuration folder; this says it is there.
    folder = site.home / ".config" / "opencode"
    (folder / "node_modules").mkdir(parents=True)
    needed = {"dependencies": {"@opencode-ai/plugin": "*"}}
    (folder / "package-lock.json").write_text(json.dumps({"packages": {"": needed}}))
    return {
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        "SCRIPTED_API_KEY": _KEY,
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    }


CLAUDE = Cli(
    name="claude",
    package="@anthropic-ai/claude-code@2.1.330",
    argv=_claude_argv,
    environment=_claude_environment,
)
CODEX = Cli(
    name="codex",
    package="@openai/codex@0.169.0",
    argv=_codex_argv,
    environment=_codex_environment,
)
OPENCODE = Cli(
    name="opencode",
    package="opencode-ai@1.18.33",
    argv=_opencode_argv,
    environment=_opencode_environment,
)
CLIS = {cli.name: cli for cli in (CLAUDE, CODEX, OPENCODE)}

_HOUR_SECONDS = 3600


def cases(cli: Cli) -> dict[str, Case]:
    """Return what is run and recorded of a CLI, by name of the transcript."""
    gets_there = {
        "good": Case(script=NOTE),
        "rate_limit": Case(script=[RateLimit(1), *NOTE]),
        "dropped_once": Case(script=[Dropped(), *NOTE]),
    }
    gives_up = {
        "usage_limit": _failing([UsageLimit(int(time.time()) + _HOUR_SECONDS)]),
        "overloaded": _failing([Overloaded()]),
        "dropped": _failing([Dropped()]),
        "nonsense": _failing([Nonsense()]),
    }
    match cli.name:
        case "claude":
            return {**gets_there, **gives_up, **_cases_of_claude(gives_up["usage_limit"])}
        case "opencode":
            return gets_there
        case "codex":
            return {**gets_there, **gives_up, **_CASES_OF_CODEX}
    return {}


def _cases_of_claude(key_limit: Case) -> dict[str, Case]:
    plan = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": _PLAN_TOKEN}
    readers_only = ["--permission-mode", "dontAsk", "--allowedTools", "Read"]
    return {
        "usage_limit": replace(key_limit, environment=plan),
        "key_limit": key_limit,
        "max_turns": _failing(NOTE, "--max-turns", "1"),
        "max_budget": _failing(NOTE, "--max-budget-usd", "0.001"),
        "declined": _failing([Decline("I can not help with that.")]),
        "logged_out": replace(_failing(NOTE), environment={"ANTHROPIC_API_KEY": ""}),
        "denied": Case(script=NOTE, argv=readers_only, is_committed=False),
    }


def _failing(script: Sequence[Turn], *argv: str) -> Case:
    return Case(script=script, argv=argv, exit_code=1, is_committed=False)


_SANDBOX = ("-c", 'sandbox_mode="workspace-write"')
_NO_KEY = ("-c", 'model_providers.scripted.env_key="NOBODY_HAS_THIS"')
_CASES_OF_CODEX = {
    # Its sandbox keeps .git from being written: the work is there, the commit is not.
    "sandboxed": Case(script=NOTE, argv=_SANDBOX, is_committed=False),
    "logged_out": _failing(NOTE, *_NO_KEY),
}
