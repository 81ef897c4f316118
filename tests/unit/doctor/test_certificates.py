"""The certificate that devices are shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest

from kora_daemon.doctor.certificate import certificate
from kora_daemon.doctor.checks import Finding
from tests.support.certificates import Issued, issued, write_pair
from tests.support.doctor import finding, has_failed, is_doubtful, is_well, settings

AUTHORITY = issued("Root", is_authority=True, days=(-1, 3650))
BETWEEN = issued("Between", by=AUTHORITY, is_authority=True)
LEAF = issued("sync", "sync.example.org", "*.apps.example.org", by=BETWEEN)


def found(folder: Path, name: str, *chain: Issued, hosts: str = '"0.0.0.0"') -> Finding | None:
    write_pair(folder, *chain)
    toml = f'[server]\nhost = [{hosts}]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"'
    return finding(certificate(settings(folder, toml)), name)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this host trust our root and no other."""
    (tmp_path / "roots.pem").write_bytes(AUTHORITY.pem)
    paths = SimpleNamespace(cafile=str(tmp_path / "roots.pem"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


def test_without_one_there_is_nothing_to_check(tmp_path: Path) -> None:
    assert list(certificate(settings(tmp_path))) == []


def test_until_when_it_is_good(tmp_path: Path) -> None:
    is_well(found(tmp_path, "tls.validity", LEAF), "for 89 days")
    is_doubtful(found(tmp_path, "tls.validity", issued("a", "a.org", days=(-1, 29.5))), "for 29 days", "renew")
    has_failed(found(tmp_path, "tls.validity", issued("a", "a.org", days=(-9, -1))), "expired on", "renew")
    has_failed(found(tmp_path, "tls.validity", issued("a", "a.org", days=(1, 9))), "is not good before", "clock")


def test_whose_key_it_is(tmp_path: Path) -> None:
    is_well(found(tmp_path, "tls.key", LEAF))
    checks = list(certificate(settings(tmp_path, '[server]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"')))
    (tmp_path / "cert.pem").write_bytes(AUTHORITY.pem)
    has_failed(finding(checks, "tls.key"), "is not the key of", "issued together")


def test_for_which_names_it_is(tmp_path: Path) -> None:
    is_well(found(tmp_path, "tls.names", LEAF), "sync.example.org, *.apps.example.org")
    covered = '"sync.example.org", "One.apps.example.org", "127.0.0.1", "::1", "localhost"'
    is_well(found(tmp_path, "tls.names", LEAF, hosts=covered))
    is_doubtful(found(tmp_path, "tls.names", LEAF, hosts='"a.b.apps.example.org"'), "not for a.b.apps.example.org")
    has_failed(found(tmp_path, "tls.names", issued("sync.example.org")), "no subjectAltName")


def test_whether_it_leads_to_what_is_trusted(tmp_path: Path, trusted: None) -> None:
    is_well(found(tmp_path, "tls.chain", LEAF, BETWEEN), "a chain of 2 that this host trusts")
    is_doubtful(found(tmp_path, "tls.chain", LEAF), "a chain of 1 that does not lead to", "intermediate")
    is_doubtful(found(tmp_path, "tls.chain", issued("a", "a.org")), "signed by itself")
    other = issued("Other", is_authority=True)
    is_doubtful(found(tmp_path, "tls.chain", issued("a", "a.org", by=other), other), "does not lead to")
