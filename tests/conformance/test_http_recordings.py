"""The recordings of HTTP long-polling: what devices are told, and how each request is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from kora_daemon.protocol import arrears
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.store.memory import MemoryStore
from tests.conformance.test_recordings import DIFFERENCES, EVERYWHERE, SYNC_PATH
from tests.support.devices import seed, wall_ms
from tests.support.http import Answer
from tests.support.http_recording import Exchange, PolledReplay, load_exchanges, load_polled_recording
from tests.support.network import PATIENCE_S, running_server
from tests.support.polling import Requests
from tests.support.recording import Script, comparable

WIRE = Path(__file__).parent / "data" / "wire" / "http"


@pytest.mark.parametrize("hold_s", [0.0, 25.0])
async def test_a_device_that_polls_is_told_what_was_recorded(hold_s: float) -> None:
    now_ms = wall_ms()
    store = MemoryStore()
    recording, polled = load_polled_recording(WIRE / "http-long-poll.jsonl", now_ms)
    seed(store, [])
    script = Script.of(recording, store.node_id, now_ms)
    for entry in DIFFERENCES:
        if entry.recordings == EVERYWHERE:
            entry.rewrite(script)
    options = ServerOptions(polling=PollingOptions(hold_s))
    async with running_server(store, options=options, path=SYNC_PATH) as host:
        replay = PolledReplay(script, host.url)
        replay.polled = polled
        await replay.run()
    assert comparable(replay.heard) == comparable(script.heard)
    assert replay.closes == {}


GARBAGE = 25
"""The last request of the recording: behind garbage, to which the recorded server had nothing to say (wire.md 12)."""


async def test_each_request_is_answered_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrears, "PATIENCE_MS", 100)  # this device uploads nothing
    exchanges = load_exchanges(WIRE / "http-status-codes.jsonl")
    options = ServerOptions(polling=PollingOptions(hold_s=0))
    async with running_server(options=options, path=SYNC_PATH) as host:
        for one in exchanges:
            answer = await answer_of(one, f"http://127.0.0.1:{host.port}{one.target}")
            if one.seq == GARBAGE:
                assert answer.json["code"] == "MALFORMED_MESSAGE"
                assert (await answer_of(one, f"http://127.0.0.1:{host.port}{one.target}")).status == 410
                continue
            assert answer.status == one.status, one
            assert one.answer_headers.items() <= answer.headers.items(), one
            if one.message_type:
                assert answer.json["type"] == one.message_type
                assert answer.json.get("code") == json.loads(one.answer).get("code")


async def answer_of(one: Exchange, url: str) -> Answer:
    """Asked until there is an answer, where the recorded server had one at once."""
    requests = Requests(url, headers=one.headers)
    waits = one.status in (200, 304) or one.seq == GARBAGE
    with trio.fail_after(PATIENCE_S):
        while (answer := await requests.ask(one.method, one.body.encode())).status == 204 and waits:
            await trio.sleep(0.005)
    requests.close()
    return answer
