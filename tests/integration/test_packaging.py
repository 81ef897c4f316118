"""What is installed from a wheel that was built from the source archive, without the source tree."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.built import NOT_SOURCE, PATIENCE_S, ROOT, archives, build, checkout, wheel

PACKAGES = ("kora_daemon", "koractl")
SERVED = ("kora.db", "kora.db-wal", "kora.db-shm", "kora.db-serving")
"""What the README's first command leaves in config/, beside its socket."""

pytestmark = pytest.mark.slow


def sources(folder: Path) -> set[str]:
    """The files below a folder of the source tree, as paths from its root."""
    found: set[str] = set()
    for path, folders, files in os.walk(folder):
        folders[:] = set(folders) - NOT_SOURCE(path, folders)
        found |= {str((Path(path) / file).relative_to(ROOT)) for file in set(files) - NOT_SOURCE(path, files)}
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; what it depends on is that of the tests."""
    prefix = tmp_path_factory.mktemp("installed") / "kora"
    venv.create(prefix, symlinks=True)
    quiet = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", prefix / "bin" / "python", "install", *quiet, wheel()],
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    ours = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    # A path file is not followed into another folder's, so that an editable installation there does not show.
    (ours / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return prefix


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no setting of Python's or ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("KORA_", "PYTHON")):
            monkeypatch.delenv(name)
    return tmp_path


def kora(installed: Path, *arguments: str) -> str:
    """What the installed command prints."""
    ended = subprocess.run(
        [installed / "bin" / "kora", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_source_archive_has_all_that_is_in_the_tree() -> None:
    (archive,) = archives().glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {one.name.partition("/")[2] for one in opened if one.isfile()}
    assert sources(ROOT) | {".dockerignore"} <= names


def test_the_wheel_has_all_of_the_packages_and_nothing_of_the_tests() -> None:
    names = set(zipfile.ZipFile(wheel()).namelist())
    for package in PACKAGES:
        assert sources(ROOT / package) <= names
    data = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert data == {
        "share/man/man1/kora.1",
        *(f"share/kora/{name}" for folder in ("config", "systemd") for name in sources(ROOT / folder)),
    }
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    inside = {name.partition("/")[0] for name in names if ".data/" not in name and ".dist-info/" not in name}
    assert inside == set(PACKAGES)


def test_what_was_served_from_a_checkout_is_in_none_of_it(tmp_path: Path) -> None:
    source = checkout(tmp_path / "source")
    for name in SERVED:
        (source / "config" / name).write_text("of a user")
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(source / "config" / "kora.sock"))
        # As pip does: the wheel from the tree, not from the archive.
        build(source, tmp_path, "--sdist", "--wheel")
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as opened:
        names = [one.name for one in opened]
    names += zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert any(name.endswith("config/sqlite.toml") for name in names)
    assert [name for name in names if name.endswith((*SERVED, ".sock"))] == []


def test_it_runs_without_the_source_tree(installed: Path, place: Path) -> None:
    code = "import kora_daemon, koractl; print(kora_daemon.__file__, koractl.__file__)"
    told = subprocess.run([installed / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert all(path.startswith(str(installed)) for path in told.stdout.split())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert kora(installed, "version") == f"kora {version}\n"

    kora(installed, "init", "app")
    assert {file.name for file in (place / "app").iterdir()} == {"kora.toml", "kora.schema.json", "schema.json"}
    os.chdir(place / "app")
    assert kora(installed, "serve", "--check").startswith("kora.toml is fine.")
    assert json.loads(kora(installed, "config", "schema"))["$id"].endswith(version)
    page = (installed / "share" / "man" / "man1" / "kora.1").read_text()
    assert kora(installed, "man") == page == (ROOT / "man" / "kora.1").read_text()
    assert (installed / "share" / "kora" / "systemd" / "kora.service").exists()


def test_the_daemon_serves(installed: Path, place: Path) -> None:
    (place / "kora.toml").write_text('[server]\nhost = "127.0.0.1"\nport = 0\n')
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(
            [installed / "bin" / "kora", "serve"], stdout=subprocess.PIPE, stderr=log, text=True
        ) as daemon,
    ):
        try:
            assert daemon.stdout is not None
            address = re.search(r"ws(://\S+)", daemon.stdout.readline())
            assert address is not None, (place / "log").read_text()
            with urllib.request.urlopen(f"http{address[1]}health", timeout=PATIENCE_S) as health:
                assert json.load(health)["status"] == "ok"
            # How a container is asked whether it is well.
            command = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])
            assert "takes writes" in kora(installed, *command[1:])
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE_S) == 0
        finally:
            daemon.kill()


# -- the container ----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_the_container_is_built_from_what_the_source_archive_has_and_its_build_may_see() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    seen = {path for pattern in allowed for path in ROOT.glob(pattern)}
    for *given, _ in copied:
        for pattern in given:
            found = set(ROOT.glob(pattern))
            assert found
            assert found <= seen
    served = Path("config", "kora.db")
    assert not any(served.is_relative_to(pattern) or served.match(pattern) for pattern in allowed)
    # All that the package needs to be built is there.
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path for *given, _ in copied for path in given}
    data = document["tool"]["setuptools"]["data-files"].values()
    needed = {pattern for patterns in data for pattern in patterns}
    assert {pattern if pattern in folders else pattern.partition("/")[0] for pattern in needed} <= folders
    project = document["project"]
    assert {*PACKAGES, project["readme"], *project["license-files"], "pyproject.toml"} <= folders


def test_the_container_runs_as_nobody_in_particular_and_can_be_asked_how_it_is() -> None:
    told = dict(instructions())
    assert told["USER"] == "kora"
    assert (told["VOLUME"], told["STOPSIGNAL"]) == ("/var/lib/kora", "SIGTERM")
    assert (json.loads(told["ENTRYPOINT"]), json.loads(told["CMD"])) == (["kora"], ["serve"])
    system = tomllib.loads((ROOT / "config" / "system.toml").read_text())
    assert system["store"]["path"].startswith(told["VOLUME"])
