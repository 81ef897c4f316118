"""Devices that sync through a server on a real socket."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from kora_daemon.http.listener import ListenerOptions
from kora_daemon.protocol import delivery
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import readers, sweep, tail, websocket
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.memory import MemoryStore
from tests.support.devices import ids, insert, inserts, seed
from tests.support.network import PATIENCE_S, Closed, connected, eventually, running_server, streaming

NONSENSE: list[dict[str, Any]] = [{"id": "no operation"}] * 1_000
"""Each is answered, at some 250 bytes."""
UNLIMITED = ServerOptions(uploads=UploadLimits(max_operations_per_minute=0))


# Two devices


async def test_an_edit_reaches_the_other_device_and_is_not_echoed() -> None:
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        sent = await a.upload(insert("a", 1))
        assert await a.hear() | {"messageId": ""} == {
            "type": "acknowledgment",
            "messageId": "",
            "acknowledgedMessageId": sent,
            "lastSequenceNumber": 1,
        }
        (batch,) = await b.download()
        assert ids(batch) == ["a/1"]
        assert (batch["baseDeliverySequence"], batch["maxDeliverySequence"]) == (0, 1)
        await b.upload(insert("b", 1))
        (batch,) = await a.download()
        assert ids(batch) == ["b/1"]
        await a.was_heard()
        assert await a.hears_nothing()


async def test_offline_edits_of_both_devices_meet_and_a_late_joiner_gets_all() -> None:
    async with running_server() as host:
        async with connected(host.url) as a:
            response = await a.shake_hands("a", 0, versionVector={"a": 3})
            assert response["versionVector"] == {}
            await a.upload(*inserts("a", 1, 3))
            assert ids(*await a.download()) == []
            assert (await a.hear())["lastSequenceNumber"] == 3
        async with connected(host.url) as b:
            response = await b.shake_hands("b", 0, versionVector={"b": 2, "a": 1})
            assert response["versionVector"] == {"a": 3}
            assert ids(*await b.download()) == ["a/1", "a/2", "a/3"]
            await b.upload(*inserts("b", 1, 2))
            assert (await b.hear())["lastSequenceNumber"] == 2
        async with connected(host.url) as late:
            response = await late.shake_hands("late")
            assert response["serverMaxDeliverySequence"] == 5
            assert ids(*await late.download()) == ["a/1", "a/2", "a/3", "b/1", "b/2"]


async def test_a_device_resumes_at_its_watermark_without_its_own_operations() -> None:
    store = MemoryStore()
    seed(store, [insert("a", 1), insert("b", 1), insert("a", 2), insert("b", 2), insert("a", 3)])
    async with running_server(store) as host, connected(host.url) as a:
        await a.shake_hands("a", 1)
        (batch,) = await a.download()
        assert ids(batch) == ["b/1", "b/2"]
        assert (batch["baseDeliverySequence"], batch["maxDeliverySequence"]) == (1, 5)


async def test_a_device_that_lost_its_store_gets_its_own_operations_back() -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    async with running_server(store) as host, connected(host.url) as a:
        await a.shake_hands("a", 0)
        assert ids(*await a.download()) == ["a/1", "a/2", "a/3"]


async def test_a_resumed_device_is_told_of_the_nodes_it_named_and_those_it_is_about_to_hear_of() -> None:
    store = MemoryStore()
    seed(store, [insert("a", 1), insert("b", 1), insert("c", 1)])
    async with running_server(store) as host, connected(host.url) as d:
        response = await d.shake_hands("d", 2, versionVector={"a": 1})
        assert response["versionVector"] == {"a": 1, "c": 1}


async def test_a_watermark_above_the_log_makes_the_device_start_over() -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 2))
    async with running_server(store) as host, connected(host.url) as b:
        response = await b.shake_hands("b", 900)
        assert response["serverMaxDeliverySequence"] < 900
        (batch,) = await b.download()
        assert batch["baseDeliverySequence"] == 0
        assert ids(batch) == ["a/1", "a/2"]


async def test_a_download_goes_on_where_the_connection_broke() -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 500))
    async with running_server(store, options=ServerOptions(batch_size=50)) as host:
        async with connected(host.url) as b:
            await b.shake_hands("b")
            taken = [await b.hear() for _ in range(3)]
            for batch in taken:
                await b.acknowledge(batch)
        async with connected(host.url) as b:
            await b.shake_hands("b", 150)
            rest = await b.download()
        assert rest[0]["baseDeliverySequence"] == 150
        assert ids(*taken, *rest) == [f"a/{number}" for number in range(1, 501)]


async def test_an_old_device_syncs_beside_a_new_one() -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    async with (
        running_server(store, options=ServerOptions(batch_size=2)) as host,
        connected(host.url) as old,
        streaming(host.url, "new") as new,
    ):
        response = await old.shake_hands("old", None, versionVector={"a": 1})
        assert "serverMaxDeliverySequence" not in response
        assert response["versionVector"] == {"a": 3}
        (batch,) = await old.download()
        assert ids(batch) == ["a/2", "a/3"]
        assert batch["totalBatches"] == 1
        await new.upload(insert("new", 1))
        (live,) = await old.download()
        assert ids(live) == ["new/1"]
        assert not live.keys() & {"baseDeliverySequence", "maxDeliverySequence", "totalBatches", "cursor"}
        await old.upload(insert("old", 1))
        assert (await old.hear())["type"] == "acknowledgment"
        assert ids(*await new.download()) == ["old/1"]
        await new.upload(insert("new", 2))
        assert ids(*await old.download()) == ["new/2"]


async def test_a_duplicate_is_acknowledged_and_not_delivered_again() -> None:
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        for _ in range(2):
            await a.upload(insert("a", 1))
            assert (await a.hear())["lastSequenceNumber"] == 1
        await a.upload(insert("a", 2))
        assert ids(*await b.download()) == ["a/1"]
        assert ids(*await b.download()) == ["a/2"]


# Many operations


async def test_ten_thousand_operations_get_through_the_rate_limit_by_back_pressure() -> None:
    # The limit is reached 400 operations before the end; with the default of 6,000 a minute that would be 40 s earlier.
    options = ServerOptions(uploads=UploadLimits(max_operations_per_minute=9_600))
    async with running_server(options=options) as host, streaming(host.url, "a") as a:

        async def upload_all() -> None:
            for first in range(1, 10_001, 100):
                await a.upload(*inserts("a", first, first + 99))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload_all)
            acknowledged = [await a.hear() for _ in range(100)]
        assert [answer["type"] for answer in acknowledged] == ["acknowledgment"] * 100
        assert [answer["lastSequenceNumber"] for answer in acknowledged] == [*range(100, 10_001, 100)]
        assert host.server.get_status().total_operations == 10_000


async def test_an_upload_is_acknowledged_while_a_first_sync_waits_for_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "WINDOW_BATCHES", 2)
    monkeypatch.setattr(readers, "MAX_PAGE_ENTRIES", 70)
    store = MemoryStore()
    seed(store, inserts("a", 1, 1_000))
    async with running_server(store, options=ServerOptions(batch_size=50)) as host, connected(host.url) as b:
        await b.shake_hands("b")
        heard = [await b.hear()]
        await b.upload(insert("b", 1))
        while heard[-1]["type"] != "acknowledgment":
            heard.append(await b.hear())
        assert heard[-1]["lastSequenceNumber"] == 1
        assert not any(batch["isFinal"] for batch in heard[:-1])


async def test_the_batches_of_a_first_sync_form_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WINDOW_BATCHES", 3)
    monkeypatch.setattr(readers, "MAX_PAGE_ENTRIES", 70)
    monkeypatch.setattr(tail, "MAX_PAGE_ENTRIES", 70)
    store = MemoryStore()
    seed(store, inserts("a", 1, 3_000))
    async with running_server(store, options=ServerOptions(batch_size=50)) as host, connected(host.url) as b:
        await b.shake_hands("b")
        batches = await b.download()
    assert ids(*batches) == [f"a/{number}" for number in range(1, 3_001)]
    assert [batch["batchIndex"] for batch in batches] == [*range(len(batches))]
    assert [batch["baseDeliverySequence"] for batch in batches[1:]] == [
        batch["maxDeliverySequence"] for batch in batches[:-1]
    ]
    assert [batch["isFinal"] for batch in batches] == [False] * (len(batches) - 1) + [True]


# Lost and slow


async def test_a_batch_whose_acknowledgment_got_lost_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RESEND_AFTER_MS", 50)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.02)
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "b") as b:
        await eventually(lambda: all(one.quiet_until for one in host.server._reception.connections))
        await a.upload(insert("a", 1))
        lost, again = await b.hear(), await b.hear()
        assert ids(lost) == ids(again) == ["a/1"]
        assert lost["baseDeliverySequence"] == again["baseDeliverySequence"]
        await b.acknowledge(again)
        await a.upload(insert("a", 2))
        following = await b.hear()
        assert ids(following) == ["a/2"]
        assert following["baseDeliverySequence"] == again["maxDeliverySequence"]


async def test_an_old_device_gets_what_it_did_not_acknowledge_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RESEND_AFTER_MS", 50)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.02)
    async with running_server() as host, streaming(host.url, "a") as a, streaming(host.url, "old", None) as old:
        await a.upload(insert("a", 1))
        assert ids(await old.hear()) == ids(await old.hear()) == ["a/1"]


async def test_a_reader_that_stalls_is_closed_and_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", PATIENCE_S)
    listening = ListenerOptions(port=0, max_buffered_bytes=1 << 20)
    async with (
        running_server(listening=listening, options=UNLIMITED) as host,
        streaming(host.url, "writer") as writer,
        streaming(host.url, "reader") as reader,
        streaming(host.url, "stalled") as stalled,
    ):
        with suppress(Closed):
            for _ in range(60):  # more than the kernel keeps for a socket
                await stalled.upload(*NONSENSE)
        assert (await stalled.closed()).code == 4013
        await writer.upload(insert("writer", 1))
        assert ids(*await reader.download()) == ["writer/1"]


async def test_a_reader_that_stalls_for_good_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.05)
    listening = ListenerOptions(port=0, max_buffered_bytes=1 << 20)
    async with (
        running_server(listening=listening, options=UNLIMITED) as host,
        streaming(host.url, "other"),
        streaming(host.url, "stalled") as stalled,
    ):
        with suppress(trio.BrokenResourceError, Closed):
            for _ in range(60):
                await stalled.upload(*NONSENSE)
        await eventually(lambda: host.server.get_connection_count() == 1)
        await stalled.closed()  # what it has not read would keep the client's own task for ever
