"""The units as systemd reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kora_daemon.config import Settings
from tests.support.cli import ROOT

UNITS = ROOT / "systemd"
SERVICES = ["kora.service", "kora@.service"]
INSTALLED = "/opt/kora/bin/kora"
GOOD_ENOUGH = 2.0


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments, "--no-pager"], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("unit", [*SERVICES, "kora.socket"])
def test_there_is_nothing_to_complain_of(tmp_path: Path, unit: str) -> None:
    for file in UNITS.iterdir():
        # The command has to be there: here it is this Python's.
        text = file.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("kora")))
        (tmp_path / file.name).write_text(text)
    verified = analyze("verify", tmp_path / unit.replace("@", "@1"))
    complaints = [line for line in (verified.stdout + verified.stderr).splitlines() if "kora" in line]
    assert (complaints, verified.returncode) == ([], 0)


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(unit: str) -> None:
    judged = analyze("security", "--offline=true", f"--threshold={GOOD_ENOUGH * 10:.0f}", UNITS / unit)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_what_one_daemon_may_not_do_none_of_several_may() -> None:
    one, several = (
        {line for line in (UNITS / unit).read_text().splitlines() if "=" in line and not line.startswith("#")}
        for unit in SERVICES
    )
    assert {line.partition("=")[0] for line in one ^ several} == {
        "Description",
        "Environment",
        "StateDirectory",
        "WorkingDirectory",
    }


def test_units_and_settings_go_together() -> None:
    server = Settings().server
    service, port = (UNITS / "kora.service").read_text(), (UNITS / "kora.socket").read_text()
    assert f"\nListenStream={server.port}\n" in port
    assert server.shutdown_grace < int(service.partition("\nTimeoutStopSec=")[2].split("\n")[0])
