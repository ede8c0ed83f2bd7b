"""No bad work reaches green, no good work is lost: mutants of a real package as agents' work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.false_passes import Package, judge, make_mutant_site, survivors
from tests.missions import assert_promises, mission

pytestmark = pytest.mark.needs_server

N_MUTANTS = 16
PACKAGE = Package(modules=("address", "labels", "routing", "tariff", "weight"))


def test_killed_mutants_stay_off_green_and_survivors_land(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    mutants = PACKAGE.mutants(N_MUTANTS, seed=3)
    site = make_mutant_site(tmp_path / "site", PACKAGE, mutants, api_url=prefect_address.api_url)
    with ThreadPoolExecutor(1) as meanwhile:
        truth = meanwhile.submit(survivors, tmp_path / "truth", PACKAGE, mutants, jobs=1)
        ran = mission(site)
    findings = judge(site, PACKAGE, mutants, truth.result())
    assert not findings.false_passes, str(findings)
    assert not findings.strange_content
    assert not findings.red_values
    assert not findings.innocents, str(findings)
    assert findings.landed, "a mission that lands nothing lets nothing bad pass either"
    assert findings.n_ejected, "nothing bad was tried"
    assert ran.code == 1
    assert_promises(site, rerun=slice(0))
