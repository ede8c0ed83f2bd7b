from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blocks.metrics import MetricsStore
from flows.ledger.events import RoundStarted
from flows.reporting.sync import sync
from tests.ledgers import busy_mission, sha, small_mission, two_rounds, write_ledger

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "mission.ipynb"

EXECUTE = """
import json, sys
import nbclient, nbformat
from jupyter_client import AsyncKernelManager

notebook = nbformat.read(sys.argv[1], as_version=4)
kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
nbclient.NotebookClient(notebook, km=kernel, timeout=100).execute()
print(nbformat.writes(notebook))
"""


def executed(home: Path, **variables: str) -> tuple[str, list[bytes]]:
    """Run the notebook in a process of its own; give its text and its figures."""
    runtime = home / "jupyter"
    runtime.mkdir(exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MISSION_HOME": str(home),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "PYTHONPATH": str(NOTEBOOK.parents[1]),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK)],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [o for cell in json.loads(done.stdout)["cells"] for o in cell.get("outputs", ())]
    errors = [o for o in outputs if o.get("name") == "stderr" or o["output_type"] == "error"]
    assert errors == []
    return text_of(outputs), figures_of(outputs)


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


def figures_of(outputs: list[dict[str, Any]]) -> list[bytes]:
    images = (o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    return [base64.b64decode(image) for image in images]


def size_of(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def test_a_finished_mission_of_forty_units_is_drawn(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", small_mission())
    write_ledger(tmp_path / "missions", "busy", busy_mission(n_units=40))
    store = MetricsStore(tmp_path / "metrics.duckdb")
    sync(store, tmp_path / "missions")
    text, figures = executed(tmp_path, MISSION_DB=str(store.path), MISSION_ID="busy")
    assert "tidy-acme (busy): finished" in text
    slots, units, train, outcomes, rounds, costs = map(size_of, figures)
    assert units[1] > 40 * 20, "a line of a unit is high enough to be read"
    assert slots[0] > 1200
    assert train[0] > 1200
    assert outcomes[0] > 1200
    assert rounds[0] > 1200
    assert costs[0] > 1200


def test_each_round_that_agents_planned_and_judged_has_its_line(tmp_path: Path) -> None:
    two = two_rounds("two")
    starts = [(700.0 + i, RoundStarted(round=i, green=sha("cg2"))) for i in range(3, 11)]
    write_ledger(tmp_path / "missions", "two", two)
    _, figures = executed(tmp_path)
    write_ledger(tmp_path / "missions", "ten", [*two_rounds("ten")[:-2], *starts])
    text, of_ten = executed(tmp_path, MISSION_ID="ten")
    assert "tidy-acme (ten)" in text
    assert len(figures) == len(of_ten) == 6
    assert size_of(of_ten[4])[1] > size_of(figures[4])[1] + 7 * 40


def test_a_mission_that_only_just_began_is_drawn_from_its_ledger(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", small_mission()[:1])
    text, figures = executed(tmp_path)
    assert "tidy-acme (m1): unfinished" in text
    assert len(figures) == 6


def test_a_running_mission_is_drawn_while_its_driver_writes(tmp_path: Path) -> None:
    running = [(at, event) for at, event in small_mission() if at <= 52]
    write_ledger(tmp_path / "missions", "m1", running)
    store = MetricsStore(tmp_path / "metrics.duckdb")
    sync(store, tmp_path / "missions")
    with store.writing():
        text, figures = executed(tmp_path)
    assert "1 of 6 units landed" in text
    assert len(figures) == 6


def test_without_a_mission_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no mission in .*make demo"):
        executed(tmp_path)


def test_outputs_are_stripped() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
