"""What people see in the Prefect UI, in a real browser: the run's units, artifacts, the form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from deployments.server import ServerAddress
from tests.missions import make_site, mission, missions_of, unit, write, write_plan

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000

pytestmark = [
    pytest.mark.needs_server,
    pytest.mark.needs_browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        opened = browser.new_page(viewport={"width": 1500, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def ask(address: ServerAddress, path: str, body: object) -> Any:
    request = urllib.request.Request(
        f"{address.api_url}{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_run_shows_its_attempts_probes_and_artifacts(
    prefect_address: ServerAddress, page: Page, tmp_path: Path
) -> None:
    site = make_site(tmp_path / "site", api_url=prefect_address.api_url)
    write_plan(
        site,
        unit("first", write("first.txt")),
        unit("second", write("second.txt"), depends_on=["first"]),
    )
    assert mission(site).code == 0
    (name,) = missions_of(site)
    (run,) = ask(prefect_address, "/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
    page.goto(f"{prefect_address.ui_url}/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Objective met").first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_text("Task Runs", exact=True).last.click()
    for shown in ("first · attempt 1", "second · attempt 1", "plan · round 1"):
        expect(page.get_by_text(shown).first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_text("Artifacts", exact=True).last.click()
    for shown in ("units", "report"):
        expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=PATIENCE_MS)


def test_an_attempt_has_an_edge_to_what_it_depends_on(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path / "site", api_url=prefect_address.api_url)
    write_plan(
        site,
        unit("first", write("first.txt")),
        unit("second", write("second.txt"), depends_on=["first"]),
    )
    assert mission(site).code == 0
    (name,) = missions_of(site)
    (run,) = ask(prefect_address, "/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    runs = {r["name"]: r for r in ask(prefect_address, "/task_runs/filter", wanted)}
    second = runs["second · attempt 1"]
    edges = [edge["id"] for edge in second["task_inputs"]["wait_for"]]
    assert edges == [runs["first · attempt 1"]["id"]]


def test_the_form_of_the_deployment_tells_what_each_parameter_is(
    prefect_address: ServerAddress, page: Page
) -> None:
    code = (
        "from pathlib import Path; from deployments.bootstrap import bootstrap; bootstrap(Path())"
    )
    env = {**os.environ, "PREFECT_API_URL": prefect_address.api_url}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    (deployment,) = ask(
        prefect_address, "/deployments/filter", {"deployments": {"name": {"any_": ["mission"]}}}
    )
    page.goto(f"{prefect_address.ui_url}/deployments/deployment/{deployment['id']}/run")
    for shown in ("Path of the mission file", "Where agents run", "LocalBackend", "SSHBackend"):
        expect(page.get_by_text(shown).first).to_be_visible(timeout=PATIENCE_MS)
