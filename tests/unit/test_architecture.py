"""The house rules that the reader relies on: who may import whom, and where Prefect may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREFECT_ROOMS = (
    "flows/*.py",
    "flows/*/tasks.py",
    "flows/reporting/artifacts.py",
    "blocks/places/backends.py",
    "deployments/*.py",
)
PLAIN_AT_THE_EDGE = (
    "flows/cli.py",
    "flows/decisions.py",
    "flows/driver.py",
    "flows/home.py",
    "flows/human_input.py",
    "flows/missions.py",
    "flows/opening.py",
    "flows/preflight.py",
    "flows/settings.py",
    "deployments/server.py",
)


def modules(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(p.relative_to(ROOT) for p in found if "target" not in p.parts)


def imports(module: Path, *, top_level: bool = False) -> Iterator[str]:
    tree = ast.parse((ROOT / module).read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("module", modules("blocks"), ids=str)
def test_blocks_know_nothing_of_missions(module: Path) -> None:
    assert not [name for name in imports(module) if name.split(".")[0] in {"flows", "deployments"}]


@pytest.mark.parametrize("module", modules("flows", "blocks", "deployments"), ids=str)
def test_prefect_stays_at_the_edge(module: Path) -> None:
    at_the_edge = any(
        module.match(room) and len(module.parts) == len(Path(room).parts) for room in PREFECT_ROOMS
    )
    uses = [name for name in imports(module) if name.split(".")[0] == "prefect"]
    assert at_the_edge or not uses


@pytest.mark.parametrize("name", PLAIN_AT_THE_EDGE)
def test_what_the_quick_commands_load_is_free_of_prefect(name: str) -> None:
    uses = [n for n in imports(Path(name), top_level=True) if n.split(".")[0] == "prefect"]
    assert not uses


@pytest.mark.parametrize("command", ["--help", "--version", "history", "status", "stop"])
def test_commands_that_need_no_server_do_not_import_prefect(command: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from flows.cli import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "sys.exit('prefect' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command],
        cwd=ROOT,
        env={"MISSION_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(module)
        for module in modules("flows", "blocks", "deployments")
        if not ast.get_docstring(ast.parse((ROOT / module).read_text()))
    ]
    assert not silent
