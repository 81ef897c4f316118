"""Whatever a network does to the requests of devices that poll, they end up in step, and nothing is lost or doubled.

`KORA_POLLING_EXAMPLES` says how many networks are made up.
"""

from __future__ import annotations

import os
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.http.origins import Origins
from kora_daemon.http.polling import PollingEndpoint
from kora_daemon.server import intake
from kora_daemon.server import polling as transport
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.polling import PollingOptions
from kora_daemon.server.polling_sessions import PollingSessions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.memory import MemoryStore
from tests.support.network import PATIENCE_S, nothing_crashes
from tests.support.polling_world import Device, Network

EXAMPLES = int(os.environ.get("KORA_POLLING_EXAMPLES", "20"))
OPTIONS = ServerOptions(handshake_timeout=0.5, batch_size=2, polling=PollingOptions(hold_s=0.05, idle_s=5))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.02, 0.1, 0.3]),
    writes=st.integers(1, 40),
    patient=st.booleans(),
)
def test_devices_on_a_bad_network_end_up_in_step(seed: int, trouble: float, writes: int, patient: bool) -> None:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(intake, "ORDER_PATIENCE_S", 0.1)
        patches.setattr(transport, "CLOSE_TIMEOUT_S", 0.05)
        trio.run(_play, Random(seed), trouble, writes, patient)


async def _play(random: Random, trouble: float, writes: int, patient: bool) -> None:
    server = SyncServer(MemoryStore(), NoAuthProvider(), OPTIONS)
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        endpoint = PollingEndpoint(PollingSessions(server), Origins())
        networks = [Network(endpoint.answer, name, random, trouble) for name in ("a", "b")]
        with nothing_crashes():
            async with trio.open_nursery() as requests:
                pause_s = 0.1 if patient else 0.001
                devices = [
                    Device(name, network, requests, pause_s) for name, network in zip("ab", networks, strict=True)
                ]
                for device in devices:
                    requests.start_soon(device.run)
                for _ in range(writes):
                    await trio.sleep(random.random() / 100)
                    random.choice(devices).write()
                for network in networks:
                    network.trouble = 0
                await _in_step(*devices, in_order=patient)
                requests.cancel_scope.cancel()
            assert server.get_status().total_operations == writes
            await server.stop()
        nursery.cancel_scope.cancel()


async def _in_step(a: Device, b: Device, *, in_order: bool) -> None:
    """Return once both have all, and each operation once, in the order in which they were written.

    Where messages of several connections are on their way at once, their order may be another one.
    """
    with trio.move_on_after(PATIENCE_S):
        while not all(one.is_idle for one in (a, b)) or _lacking(a, b):
            await trio.sleep(0.01)
    for one, other in ((a, b), (b, a)):
        taken = [operation["sequenceNumber"] for operation in one.taken]
        assert (taken if in_order else sorted(taken)) == list(range(1, len(other.written) + 1))


def _lacking(a: Device, b: Device) -> bool:
    return len(a.taken) < len(b.written) or len(b.taken) < len(a.written)
