"""docs/install.md is done, word for word, then docs/systemd.md: in a folder that stands for the root of a host.

What a test can't have (root's rights, systemd, a container engine, pipx) is a program that only writes down that it was
called. There is a wheel instead of a checkout, its dependencies are there already, and environments borrow the pip of
the tests, since making one with its own takes its time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from kora_daemon.config import load_settings
from kora_daemon.version import VERSION
from tests.support.built import PATIENCE_S, ROOT, wheel

PROGRAMS = Path(sys.executable).parent
BLOCKS, SYSTEMD = (
    re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.M)
    for page in ("install.md", "systemd.md")
)
ELSEWHERE = re.compile(r"(?<![\w.:-])/(?=(?:opt|etc|usr|var)\b)")
"""Where a path begins that is to be below the folder, but for those inside a container."""

pytestmark = pytest.mark.slow


class Host:
    """The folder, and what was called."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._home = folder / "home"
        self._calls = folder / "calls"
        shims = folder / "shims"
        for made in (self._home, shims, self._calls):
            made.mkdir()
        for place in ("opt", "etc/systemd/system", "usr/local/bin", "usr/local/share/man/man1"):
            (self.root / place).mkdir(parents=True)
        for place in ("usr/share/bash-completion/completions", "var/lib/kora"):
            (self.root / place).mkdir(parents=True)
        for name in ("systemctl", "podman", "pipx"):
            self._shim(shims / name, f'echo "$@" >> "{self._calls}/{name}"')
        self._shim(shims / "sudo", 'exec "$@"')
        pip = f'exec "{sys.executable}" -m pip --python "$(dirname "$0")/python" "$@"'
        lend = f"cp {shims}/pip $3/bin/pip"
        self._shim(shims / "pip", pip)
        self._shim(shims / "python3", f'"{sys.executable}" "$1" "$2" --without-pip "$3" && {lend}')
        self._path = f"{shims}{os.pathsep}{PROGRAMS}{os.pathsep}{os.environ['PATH']}"

    @staticmethod
    def _shim(program: Path, script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def take(self, block: str) -> str:
        """Do what a block says; what it prints."""
        script = re.sub(r"(?<=pip install)( --upgrade)? \.$", rf"\1 {wheel()}", block, flags=re.M)
        lines = [
            line if line.startswith("podman") else ELSEWHERE.sub(f"{self.root}/", line) for line in script.splitlines()
        ]
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self._home,
            env={
                "PATH": self._path,
                "HOME": str(self._home),
                "KORA_STORE__PATH": str(self.root / "var" / "lib" / "kora" / "kora.db"),
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PIP_NO_COMPILE": "1",
                # No path file of the environment of the tests is followed: only its folders are looked at.
                "PYTHONPATH": sysconfig.get_path("purelib"),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, (block, ended.stdout, ended.stderr)
        return ended.stdout

    def called(self, program: str) -> list[str]:
        return (self._calls / program).read_text().splitlines()


def test_the_page_can_be_followed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    printed = [host.take(block) for block in BLOCKS]
    told = dict(zip(BLOCKS, printed, strict=True))

    assert host.called("pipx") == ["install ."]
    assert (tmp_path / "home" / ".venv" / "bin" / "kora").exists()
    (version,) = (text for block, text in told.items() if "bin/kora version" in block)
    assert version.splitlines()[-1] == f"kora {VERSION}"

    settings = load_settings(host.root / "etc" / "kora" / "kora.toml", {})
    assert (str(settings.store.path), str(settings.blobs.path)) == ("/var/lib/kora/kora.db", "/var/lib/kora/blobs")
    assert (host.root / "etc" / "kora" / "kora.env").stat().st_mode & 0o777 == 0o600
    assert (host.root / "etc" / "kora" / "kora.schema.json").exists()
    unit = (host.root / "etc" / "systemd" / "system" / "kora.service").read_text()
    assert "/opt/kora/bin/kora serve --config /etc/kora/kora.toml" in unit
    assert (host.root / "etc" / "systemd" / "system" / "kora.socket").exists()
    assert host.called("systemctl") == ["daemon-reload", "enable --now kora.socket kora", "restart kora"]
    assert any("config.valid" in text for text in printed)

    assert [line.split()[0] for line in host.called("podman")] == ["build", "run", "exec", "run"]
    completion = host.root / "usr" / "share" / "bash-completion" / "completions" / "kora"
    assert "complete -o default" in completion.read_text()
    assert (host.root / "usr" / "local" / "share" / "man" / "man1" / "kora.1").read_text().startswith('.\\"')
    assert (tmp_path / "home" / "my-app" / "kora.schema.json").exists()
    assert told[BLOCKS[-1]] == "#:schema kora.schema.json\n"

    for block in SYSTEMD:
        host.take(block)
    assert host.called("systemctl")[3:] == ["daemon-reload", "stop kora", "enable --now kora.socket kora"]
    assert (host.root / "etc" / "systemd" / "system" / "kora.socket").exists()
    credentials = host.root / "etc" / "kora" / "credentials"
    assert credentials.stat().st_mode & 0o777 == 0o700
    assert len((credentials / "KORA_ADMIN_TOKEN").read_text().strip()) == 64
