"""The SQLite file, the folder of blobs, files with secrets: who may do what with them, and what holds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kora_daemon.doctor import blobs, places, sqlite
from kora_daemon.doctor.checks import Finding
from kora_daemon.doctor.configuration import configuration
from kora_daemon.doctor.sqlite import owner, space
from tests.support.doctor import finding, has_failed, is_doubtful, is_well, settings
from tests.support.tokens import SECRET


def found(folder: Path, name: str, toml: str = "") -> Finding | None:
    return finding(sqlite.sqlite(settings(folder, toml)), name)


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    file = folder / "mounts"
    file.write_text(f"22 1 8:1 / / rw - {kind} /dev/sda1 rw\n")
    monkeypatch.setattr(places, "MOUNTS", file)


def test_a_file_that_is_not_there_yet_needs_a_folder(tmp_path: Path) -> None:
    is_well(found(tmp_path, "sqlite.files"), "not there yet")
    has_failed(found(tmp_path, "sqlite.files", '[store]\npath = "no/kora.db"'), "is no folder", "store.path")


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = tmp_path / "kora.db"
    database.touch(0o600)
    is_well(found(tmp_path, "sqlite.files"), "who alone can read and write it")
    (tmp_path / "kora.db-wal").touch()
    (tmp_path / "kora.db-wal").chmod(0o644)
    is_doubtful(found(tmp_path, "sqlite.files"), "kora.db-wal", "chmod 600")


def test_what_is_beside_it_is_of_the_same_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kora.db").touch(0o600)
    (tmp_path / "kora.db-shm").touch(0o600)
    really = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        found = really(path, **how)
        return os.stat_result((*found[:4], 54_321, *found[5:10])) if path.name == "kora.db-shm" else found

    monkeypatch.setattr(Path, "stat", stat)
    has_failed(found(tmp_path, "sqlite.files"), "kora.db-shm belongs to 54321", f"chown {owner(tmp_path)}")


def test_whoever_runs_it_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root one may, so the system is not asked."""
    (tmp_path / "kora.db").touch(0o600)
    refused = tmp_path / "kora.db"
    monkeypatch.setattr(os, "access", lambda path, mode, effective_ids: path != refused)
    has_failed(found(tmp_path, "sqlite.files"), "may not read and write", "sudo -u kora")
    refused = tmp_path
    has_failed(found(tmp_path, "sqlite.files"), f"may not write in {tmp_path}", "sudo -u kora")
    blobs_here = settings(tmp_path, '[blobs]\nkind = "directory"\npath = "new/blobs"')
    has_failed(finding(blobs.blobs(blobs_here), "blobs.folder"), f"may not write in {tmp_path}")


def test_locks_of_network_file_systems_are_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, judge in (
        ("ext4", is_well),
        ("nfs4", has_failed),
        ("cifs", has_failed),
        ("fuse.sshfs", has_failed),
        ("fuseblk", is_well),
        ("tmpfs", is_doubtful),
        ("overlay", is_doubtful),
    ):
        mounted(monkeypatch, tmp_path, kind)
        judge(found(tmp_path, "sqlite.file_system"), f"is on {kind} (/)")
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "none")
    assert found(tmp_path, "sqlite.file_system") is None


def test_there_is_room_for_as_much_again(tmp_path: Path) -> None:
    is_well(space(5 << 30, 4 << 30, "it"), "5.0 GiB are free, it has 4.0 GiB")
    is_doubtful(space(5 << 30, 6 << 30, "it"), "make room")
    is_doubtful(space(1 << 29, 0, "it"))
    has_failed(space(100 << 20, 0, "it"))
    assert found(tmp_path, "sqlite.space") is not None


def test_a_write_ahead_log_that_nobody_empties(tmp_path: Path) -> None:
    assert found(tmp_path, "sqlite.wal") is None
    with (tmp_path / "kora.db-wal").open("wb") as wal:
        is_well(found(tmp_path, "sqlite.wal"), "0 bytes")
        wal.truncate(sqlite.LONG_WAL_BYTES + 1)
        is_doubtful(found(tmp_path, "sqlite.wal"), "512 MiB", "keeps the database open")


def test_a_folder_for_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = settings(tmp_path, '[blobs]\nkind = "directory"')
    assert list(blobs.blobs(settings(tmp_path))) == []
    is_well(finding(blobs.blobs(kept), "blobs.folder"), "not there yet")
    (tmp_path / "blobs").mkdir()
    is_well(finding(blobs.blobs(kept), "blobs.folder"), "can be written")
    mounted(monkeypatch, tmp_path, "overlay")
    is_doubtful(finding(blobs.blobs(kept), "blobs.file_system"), "gone with this container")
    assert finding(blobs.blobs(kept), "blobs.space") is not None
    is_well(blobs._space(5 << 30, 1 << 30), "5.0 GiB are free, of which blobs leave 1.0 GiB")
    is_doubtful(blobs._space((2 << 30) - 1, 1 << 30), "kora blobs gc")
    has_failed(blobs._space(1 << 30, 1 << 30), "new ones are dropped", "keep_free_bytes")
    (tmp_path / "blobs").rmdir()
    (tmp_path / "blobs").touch()
    has_failed(finding(blobs.blobs(kept), "blobs.folder"), "is no folder")


SECRETS = """
[admin]
admin_token = "s3cret"
metrics_token = "${METRICS_TOKEN:-}x"
[store]
kind = "postgres"
url = "postgresql://kora:s3cret@db/kora"
[auth]
kind = "token"
source = "static"
[[auth.tokens]]
token = "${ONE:-x}"
user = "a"
unscoped = true
[[auth.tokens]]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
user = "b"
unscoped = true
"""


def test_secrets_are_not_for_everybody(tmp_path: Path) -> None:
    def permissions(toml: str, mode: int) -> Finding | None:
        found = settings(tmp_path, toml)
        (tmp_path / "kora.toml").chmod(mode)
        return finding(configuration(found), "config.permissions")

    told = permissions(SECRETS, 0o644)
    is_doubtful(told, "kora.toml", "store.url, auth.tokens[1].sha256, admin.admin_token", "chmod o=", "${NAME}")
    assert told is not None
    assert "s3cret" not in told.found
    for absent in ("metrics_token", "tokens[0]", "tokens[1].token"):
        assert absent not in told.found
    is_well(permissions(SECRETS, 0o640))
    is_well(permissions('[admin]\nadmin_token = "${TOKEN:-x}"', 0o644))
    for harmless in ("postgresql://kora@db/kora", "host=db user=kora", "${URL:-host=db password=x}"):
        is_well(permissions(f'[store]\nkind = "postgres"\nurl = "{harmless}"', 0o644))
    is_doubtful(permissions('[store]\nkind = "postgres"\nurl = "host=db password=x"', 0o644), "store.url")


def test_files_with_secrets_are_not_for_everybody(tmp_path: Path) -> None:
    (tmp_path / "secrets.txt").write_text("0123456789abcdef" * 2)
    kora = '[auth]\nkind = "kora"\nshared_data = true\n[auth.kora]\nsecret_file = "secrets.txt"\ndatabase = ""'
    (tmp_path / "secrets.txt").chmod(0o604)
    is_doubtful(finding(configuration(settings(tmp_path, kora)), "config.permissions"), "secrets.txt", "secret_file")
    (tmp_path / "secrets.txt").chmod(0o600)
    is_well(finding(configuration(settings(tmp_path, kora)), "config.permissions"))


@pytest.mark.parametrize(
    ("hosts", "judge"),
    [
        ('["127.0.0.1", "::1", "localhost"]', is_well),
        ('"0.0.0.0"', is_doubtful),
        ('["127.0.0.1", "sync.example.org"]', is_doubtful),
    ],
)
def test_who_may_connect_when_everybody_may(tmp_path: Path, hosts: str, judge: Callable[..., None]) -> None:
    judge(finding(configuration(settings(tmp_path, f"[server]\nhost = {hosts}")), "auth.open"))
    auth = f'[auth]\nkind = "kora"\nshared_data = true\n[auth.kora]\nsecret = "{SECRET}"\ndatabase = ""'
    is_well(finding(configuration(settings(tmp_path, f"[server]\nhost = {hosts}\n{auth}")), "auth.open"), '"kora"')
