"""Metrics, as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from kora_daemon.http.metrics import ServerCollector
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import oversight
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.version import VERSION
from tests.support.devices import insert, inserts
from tests.support.http import HttpClient, http_client
from tests.support.network import connected, eventually, running_server, streaming

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Scrape:
    """What one scrape has found."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = {family.name: family for family in families}
        self._values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self._values[name, tuple(sorted(labels.items()))]


async def scrape(client: HttpClient) -> Scrape:
    answer = await client.ask("/__kora/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(list(text_string_to_metric_families(answer.body.decode())))


async def test_what_is_told_is_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oversight, "SIZE_KEPT_S", 0.0)
    options = ServerOptions(uploads=UploadLimits(max_operation_bytes=1_000))
    store = SqliteStore(tmp_path / "kora.db")
    async with running_server(store, options=options) as host, http_client(host.port) as http:
        async with streaming(host.url, "a") as a, streaming(host.url, "b") as b, streaming(host.url, "c"):
            await a.upload(*inserts("a", 1, 7))
            await a.hear()
            await a.upload(insert("a", 8, text="x" * 2_000))
            await a.hear()
            await b.acknowledge(await b.hear())
            await b.was_heard()
            async with connected(host.url) as rude:
                await rude.say_text("nonsense")
                await rude.closed()
            await eventually(lambda: bool(host.server.measures.closes.by_name))
            found = await scrape(http)
            assert found.value("kora_uploaded_operations_total") == 7
            assert found.value("kora_delivered_operations_total") == 14
            assert found.value("kora_rejected_operations_total", code="OPERATION_TOO_LARGE") == 1
            assert found.value("kora_rejected_operations_total", code="SCOPE_VIOLATION") == 0
            assert found.value("kora_errors_total", code="MALFORMED_MESSAGE") == 1
            assert found.value("kora_closes_total", code="4002") == 1
            assert found.value("kora_auth_total", outcome="accepted") == 3
            assert found.value("kora_connections_total", transport="websocket", result="joined") == 3
            assert found.value("kora_connections_total", transport="websocket", result="unfinished") == 1
            assert found.value("kora_sessions", phase="streaming") == 3
            assert found.value("kora_sessions", phase="syncing") == 0
            assert found.value("kora_log_frontier") == 7
            assert found.value("kora_log_operations") == 7
            assert found.value("kora_write_to_ack_seconds_count") == 2
            assert found.value("kora_write_to_deliver_seconds_count") == 2
            assert found.value("kora_first_sync_seconds_count") == 3
            assert found.value("kora_commit_operations_bucket", le="5.0") == 0
            assert found.value("kora_commit_operations_bucket", le="10.0") == 1
            assert found.value("kora_commit_operations_sum") == 7
            assert found.value("kora_session_lag_operations_bucket", le="0.0") == 2
            assert found.value("kora_session_lag_operations_bucket", le="+Inf") == 3
            assert found.value("kora_session_lag_operations_gsum") == 7
            assert found.value("kora_session_queue_bytes_bucket", le="0.0") == 3
            assert found.value("kora_store_bytes") > 0
            assert found.value("kora_ready") == 1
            assert found.value("kora_build_info", version=VERSION, store="sqlite") == 1
            assert found.value("process_resident_memory_bytes") > 1_000_000


async def test_openmetrics_are_spoken_to_whoever_asks_for_them() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a"):
        answer = await client.ask("/__kora/metrics", headers={"accept": OPENMETRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.body.endswith(b"# EOF\n")
        families = list(openmetrics.text_string_to_metric_families(answer.body.decode()))
        assert {"kora_uploaded_operations", "kora_sessions"} <= {family.name for family in families}


async def test_histograms_are_whole() -> None:
    async with running_server() as host, http_client(host.port) as client, streaming(host.url, "a") as a:
        await a.upload(*inserts("a", 1, 3))
        await a.hear()
        for family in (await scrape(client)).families.values():
            buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
            assert buckets == sorted(buckets)
            counts = [sample.value for sample in family.samples if sample.name.endswith("_count")]
            if family.type == "histogram" and counts:
                assert counts == buckets[-1:]


async def test_whatever_devices_are_called_there_are_no_more_lines() -> None:
    async with running_server() as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a:
            await a.upload(insert("a", 1))
            await a.hear()
            before = {family.name: len(family.samples) for family in (await scrape(client)).families.values()}
        for number in range(20):
            async with streaming(host.url, f"node-{number}") as device:
                await device.upload({**insert(f"node-{number}", 1), "type": "made-up"})
                await device.hear()
        found = await scrape(client)
        assert {family.name: len(family.samples) for family in found.families.values()} == before
        assert not any("node" in str(sample.labels) for one in found.families.values() for sample in one.samples)


async def test_two_servers_in_one_program_have_numbers_of_their_own() -> None:
    async with running_server() as one, running_server() as other, streaming(one.url, "a") as a:
        await a.upload(insert("a", 1))
        await a.hear()
        async with http_client(one.port) as client:
            assert (await scrape(client)).value("kora_uploaded_operations_total") == 1
        async with http_client(other.port) as client:
            assert (await scrape(client)).value("kora_uploaded_operations_total") == 0


async def test_a_server_that_has_stopped_still_has_its_counters() -> None:
    async with running_server() as host, streaming(host.url, "a") as a:
        collector = ServerCollector(host.server)
        await a.upload(insert("a", 1))
        await a.hear()
    found = Scrape(list(collector.collect()))
    assert found.value("kora_uploaded_operations_total") == 1
    assert "kora_sessions" not in found.families
