"""Awareness: devices in one room tell each other where they are."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from kora_daemon.bench import messages as say
from kora_daemon.bench.client import Client
from kora_daemon.bench.load import amount
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class AwarenessLoad:
    """Who moves how often."""

    clients: int = amount(30, "Devices in the room.", least=2)
    rate: float = amount(5, "Updates a second of each.", least=0.01)
    seconds: float = amount(10, "How long.", least=0.01)


def run(rig: Rig, load: AwarenessLoad) -> Figures:
    """Measure it. A server may merge updates; the last of everybody has to reach everybody."""
    clients = rig.clients(load.clients, rig.read_log()[0].watermark)
    each = max(1, round(load.rate * load.seconds))
    room = _Room(clients, each)
    frames = [say.presence(f"User {who}", who + 1, turn) for turn in range(each) for who in range(len(clients))]
    rig.open(clients)

    def show(number: int, due: float) -> None:
        room.shown(number, due)
        clients[number % len(clients)].send(frames[number])

    pace = Pace(rig.loop, 1 / (load.rate * len(clients)), len(frames), show)
    heard_before = sum(one.frames_in for one in clients)
    began = rig.begin()
    pace.begin()
    rig.wait(lambda: pace.is_over and room.is_settled, "presence", load.seconds + rig.patience_s)
    seconds = rig.seconds_since(began)
    costs = rig.watch.end(updates=len(frames), states=room.fresh)
    expected = len(frames) * (len(clients) - 1)
    if room.unsettled:
        rig.trouble["last states that did not arrive"] += room.unsettled
    return {
        "updates": len(frames),
        "states": room.fresh,
        "freshShare": round(room.fresh / expected, 4),
        "seconds": round(seconds, 3),
        "statesPerSecond": round(room.fresh / seconds),
        "framesPerSecond": round((sum(one.frames_in for one in clients) - heard_before) / seconds),
        "latencyMs": room.latency.percentiles_ms(),
        "generatorBehindMs": pace.behind.percentiles_ms(),
        **costs,
    }


class _Room:
    """What everybody has last seen of everybody else; `fresh` counts states that were new to somebody."""

    def __init__(self, clients: list[Client], each: int) -> None:
        self._size, self._last = len(clients), each - 1
        self._due = [array("d", bytes(8 * each)) for _ in clients]
        self._places = {f"User {who}": who for who in range(len(clients))}
        self.latency = Samples()
        self.fresh = 0
        self.unsettled = self._size * (self._size - 1)
        """Pairs of which one has not seen the last state of the other."""
        for me, client in enumerate(clients):
            client.on_presence = self._onlooker(me)

    @property
    def is_settled(self) -> bool:
        """Whether everybody has seen the last state of everybody else."""
        return not self.unsettled

    def shown(self, number: int, due: float) -> None:
        """The `number`th update of all is due."""
        turn, who = divmod(number, self._size)
        self._due[who][turn] = due

    def _onlooker(self, me: int) -> Callable[[Client, say.Presence, float], None]:
        latest = [-1] * self._size
        latest[me] = self._last

        def seen(_client: Client, message: say.Presence, at: float) -> None:
            for state in message.states.values():
                if state is None or state.user is None or state.cursor is None:
                    continue
                who, turn = self._places.get(state.user.name, me), state.cursor.anchor
                # Echoes and repeats are nothing new.
                if turn > latest[who]:
                    latest[who] = turn
                    self.fresh += 1
                    self.unsettled -= turn == self._last
                    self.latency.add(at - self._due[who][turn])

        return seen
