"""The port, and who has it; keys and users that are elsewhere."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.doctor import network
from kora_daemon.doctor.checks import Finding
from kora_daemon.doctor.keys import keys
from tests.support.certificates import issued
from tests.support.doctor import finding, has_failed, is_doubtful, is_well, settings
from tests.support.endpoint import CERTIFICATE, Endpoint
from tests.support.tokens import SECRET, jwks, pem, public_jwk


def port(folder: Path, number: int, host: str = '"127.0.0.1"', more: str = "") -> Finding | None:
    found = settings(folder, f"[server]\nhost = {host}\nport = {number}\n{more}")
    return finding(network.network(found), "server.port")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def test_a_free_port_stays_free(tmp_path: Path) -> None:
    is_well(port(tmp_path, 0), "any free port")
    number = free_port()
    for _ in range(2):
        is_well(port(tmp_path, number, '["127.0.0.1", "::1", "localhost"]'), f"port {number} is free")


def test_another_program_has_it(tmp_path: Path, endpoint: Endpoint) -> None:
    for body in (b"{}", b"[]", b"no JSON", json.dumps({"status": "ok"}).encode(), b"9" * 20_000):
        endpoint.body = body
        has_failed(port(tmp_path, endpoint.port), "in use by another program", "ss -ltnp")


def test_a_daemon_has_it_and_that_is_as_it_should_be(tmp_path: Path, endpoint: Endpoint) -> None:
    for status in ("ok", "unavailable"):
        endpoint.body = json.dumps({"status": status, "version": "7.8.9"}).encode()
        is_well(port(tmp_path, endpoint.port), "in use, by Kora Daemon 7.8.9")
        is_well(port(tmp_path, endpoint.port, '"0.0.0.0"'))
    assert {path for _, path, _, _ in endpoint.asked} == {"/health"}


def test_a_daemon_with_tls_has_it(tmp_path: Path) -> None:
    key = CERTIFICATE.with_name("key.pem")
    endpoint = Endpoint((str(CERTIFICATE), str(key)))
    endpoint.body = b'{"status": "ok", "version": "7.8.9"}'
    try:
        tls = f'tls_certificate = "{CERTIFICATE}"\ntls_key = "{key}"'
        is_well(port(tmp_path, endpoint.port, more=tls), "by Kora Daemon 7.8.9")
        has_failed(port(tmp_path, endpoint.port), "another program")
    finally:
        endpoint.close()


def test_an_address_of_another_host(tmp_path: Path) -> None:
    has_failed(port(tmp_path, free_port(), '"192.0.2.1"'), "192.0.2.1", "correct server.host")


def test_a_name_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    has_failed(port(tmp_path, 4567, '"nowhere.example"'), "nowhere.example is no address of this host")


def test_a_port_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(network, "_bind", refuse)
    has_failed(port(tmp_path, 443), "Permission denied", "CAP_NET_BIND_SERVICE")


JWT = '[auth]\nkind = "token"\nsource = "jwt"\nshared_data = true\n[auth.jwt]\nalgorithms = ["ES256"]\n'


def test_keys_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(public_jwk("ES256")))
    is_well(finding(keys(settings(tmp_path, f'{JWT}jwks_file = "jwks.json"')), "auth.keys"), "1 of 1 keys")
    (tmp_path / "key.pem").write_bytes(pem("ES256"))
    assert [one.id for one in keys(settings(tmp_path, f'{JWT}public_key_file = "key.pem"'))] == ["auth.keys"]
    assert list(keys(settings(tmp_path))) == []


def test_a_key_in_a_certificate_that_expires(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(issued("id", days=(-9, 9)).pem)
    checks = list(keys(settings(tmp_path, f'{JWT}public_key_file = "cert.pem"')))
    is_well(finding(checks, "auth.keys"))
    is_doubtful(finding(checks, "auth.certificate"), "for 8 days")


def test_a_key_set_that_can_not_be_had(tmp_path: Path) -> None:
    unreachable = settings(tmp_path, f'{JWT}jwks_url = "https://127.0.0.1:{free_port()}/s3cret"')
    told = finding(keys(unreachable), "auth.keys")
    has_failed(told, "127.0.0.1 can't be asked", "auth.jwt.jwks_url")
    assert told is not None
    assert "s3cret" not in told.found


def test_a_key_set_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint((str(CERTIFICATE), str(CERTIFICATE.with_name("key.pem"))))
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    try:
        checks = list(keys(settings(tmp_path, f'{JWT}jwks_url = "https://127.0.0.1:{endpoint.port}/"')))
        for body, judge, words in (
            (jwks(public_jwk("ES256"), public_jwk("RS256")), is_well, "1 of 2 keys are for ES256"),
            (jwks(public_jwk("RS256")), has_failed, "none of 1 keys is for ES256"),
            (b'{"keys": []}', has_failed, "none of 0 keys"),
            (b"oops", has_failed, "can't be used as a key set"),
        ):
            endpoint.body = body
            judge(finding(checks, "auth.keys"), words)
    finally:
        endpoint.close()


def test_user_tables_that_are_not_there(tmp_path: Path) -> None:
    kora = f'[auth]\nkind = "kora"\nshared_data = true\n[auth.kora]\nsecret = "{SECRET}"\n'
    assert list(keys(settings(tmp_path, f'{kora}database = ""'))) == []
    has_failed(finding(keys(settings(tmp_path, f'{kora}database = "sqlite:auth.db"')), "auth.users"), "auth.db")
