"""A server that runs gets another configuration: what changes, what does not, and what whoever asked is told."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kora_daemon.config import load_settings
from kora_daemon.http.access import Access
from kora_daemon.http.listener import Listener
from kora_daemon.http.surface import surface
from kora_daemon.options import listener_options, server_options
from kora_daemon.parts import build_auth, build_store, load_parts
from kora_daemon.reload import Reloaded, Reloader
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.service_manager import ServiceManager
from tests.support.devices import insert
from tests.support.network import Client, connected, nothing_crashes, streaming

HERE = '[server]\nhost = "127.0.0.1"\nport = 0\n{}[store]\nkind = "memory"\n'


class Running:
    """A server made from a file, and the file."""

    def __init__(self, file: Path, reloader: Reloader, access: Access, port: int) -> None:
        self._file = file
        self._reloader = reloader
        self.access = access
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/"

    async def reload(self, toml: str) -> Reloaded:
        """Write another file, and have it read."""
        self._file.write_text(toml)
        return await self._reloader.reload()


@asynccontextmanager
async def running(folder: Path, toml: str = HERE.format("")) -> AsyncIterator[Running]:
    """As `daemon.serve` puts it together."""
    file = folder / "kora.toml"
    file.write_text(toml)
    settings = load_settings(file)
    parts = load_parts(settings)
    server = SyncServer(build_store(settings.store), build_auth(settings, parts), server_options(settings, parts))
    access = Access()
    listener = Listener(server, surface(server, "/", access), listener_options(settings))
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        with nothing_crashes():
            async with trio.open_nursery() as front:
                listeners = await listener.open()
                front.start_soon(listener.serve, listeners, nursery)
                port = listeners[0].socket.getsockname()[1]
                yield Running(file, Reloader(settings, parts, server, listener, access, ServiceManager()), access, port)
                front.cancel_scope.cancel()
            await server.stop()
        nursery.cancel_scope.cancel()


async def goes_on(client: Client) -> None:
    """The session is there and works."""
    await client.upload(insert("a", 1))
    assert (await client.hear())["type"] == "acknowledgment"


async def test_what_is_live_is_applied_and_named_and_nobody_is_dropped(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, streaming(daemon.url, "a") as a:
        outcome = await daemon.reload(HERE.format("max_connections = 1\n") + '[admin]\nmetrics_token = "seen"\n')
        assert outcome == Reloaded(applied=("server.max_connections", "admin.metrics_token"))
        assert daemon.access.tokens.metrics == "seen"
        async with connected(daemon.url) as other:
            assert (await other.hear())["code"] == "MAX_CONNECTIONS"
        await goes_on(a)


async def test_a_limit_on_presence_holds_for_the_sessions_that_are_there(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, streaming(daemon.url, "a") as a, streaming(daemon.url, "b") as b:
        await daemon.reload(HERE.format("") + "[limits]\nmax_awareness_bytes = 64\n")
        await b.say(presence(2, "here"))
        await a.say(presence(1, "x" * 64))
        await a.say(presence(1, "short"))
        names = [state["name"] async for state in states(b, "1")]
        assert names == ["short"]


def presence(client: int, name: str) -> dict[str, Any]:
    return {"type": "awareness-update", "clientId": client, "states": {str(client): {"name": name}}}


async def states(client: Client, of: str) -> AsyncIterator[Any]:
    """What a client hears of somebody, up to the first state."""
    while True:
        message = await client.hear()
        if message["type"] == "awareness-update" and message["states"].get(of):
            yield message["states"][of]
            return


async def test_pings_follow_the_interval_of_the_moment(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.reload(HERE.format("") + "[limits]\nping_interval = 0.3\n")
        stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        async with stream:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            heard = b""
            with trio.fail_after(10):
                while b"\x89" not in heard.partition(b"\r\n\r\n")[2]:
                    heard += await stream.receive_some()


async def test_what_needs_a_restart_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        toml = HERE.replace("port = 0", "port = 1").replace('"memory"', '"sqlite"').format("path = '/sync'\n")
        outcome = await daemon.reload(toml + '[log]\nlevel = "error"\n')
        assert outcome == Reloaded(("log.level",), ("server.port", "server.path", "store.kind"))
        assert (await daemon.reload(toml)).needs_restart == ("server.port", "server.path", "store.kind")
        async with streaming(daemon.url, "a") as a:
            await goes_on(a)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[server]\nprot = 5\n", "server.prot"),
        ("not toml", "is not TOML"),
        (HERE.format("supported_schema_versions = [3, 4]\nschema_version = 2\n"), "server.supported_schema_versions"),
        (HERE.format("") + '[auth]\nkind = "token"\nsource = "python"\npython = "nowhere:at_all"\n', "auth.python"),
        (HERE.format("tls_certificate = 'kora.toml'\ntls_key = 'kora.toml'\n"), "server.tls_certificate"),
    ],
)
async def test_with_any_problem_nothing_changes(tmp_path: Path, toml: str, problem: str) -> None:
    async with running(tmp_path) as daemon, streaming(daemon.url, "a") as a:
        outcome = await daemon.reload('[admin]\nadmin_token = "new"\n' + toml)
        assert any(problem in one for one in outcome.problems)
        assert (outcome.applied, outcome.needs_restart) == ((), ())
        assert daemon.access.tokens.admin is None
        await goes_on(a)
        assert await daemon.reload(HERE.format("")) == Reloaded()


async def test_a_file_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        (tmp_path / "kora.toml").unlink()
        (problem,) = (await daemon._reloader.reload()).problems
        assert "there is no such file" in problem


async def test_a_renewed_certificate_is_shown_to_who_comes_and_costs_nobody_a_session(tmp_path: Path) -> None:
    first = make_certificate(tmp_path)
    toml = HERE.format("tls_certificate = 'cert.pem'\ntls_key = 'key.pem'\n")
    async with running(tmp_path, toml) as daemon:
        trusting = ssl.create_default_context(cadata=first)
        async with streaming(f"wss://127.0.0.1:{daemon.port}/", "a", ssl_context=trusting) as a:
            second = make_certificate(tmp_path)
            assert await daemon.reload(toml) == Reloaded(("server.tls_certificate", "server.tls_key"))
            trusting = ssl.create_default_context(cadata=second)
            async with streaming(f"wss://127.0.0.1:{daemon.port}/", "b", ssl_context=trusting):
                await goes_on(a)


def make_certificate(folder: Path) -> str:
    """Write a new pair for 127.0.0.1; the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    (folder / "cert.pem").write_text(text)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return text
