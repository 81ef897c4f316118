"""The schedule of a run: who writes when, and what goes wrong when. Drawn from the seed before anything begins."""

from __future__ import annotations

from random import Random
from typing import Final, Literal

from msgspec import Struct

Kind = Literal[
    "write",
    "show presence",
    "cut",
    "partition",
    "stall",
    "restart app",
    "wipe app",
    "device clock",
    "daemon clock",
    "slow store",
    "store out",
    "commit fails",
    "commit in doubt",
    "disk trouble",
    "kill",
    "restart",
]
FAULTS: Final[dict[Kind, int]] = {
    "cut": 8,
    "partition": 4,
    "stall": 4,
    "restart app": 3,
    "wipe app": 1,
    "device clock": 3,
    "daemon clock": 2,
    "slow store": 3,
    "store out": 2,
    "commit fails": 5,
    "commit in doubt": 4,
    "disk trouble": 4,
    "kill": 3,
    "restart": 1,
}
"""How often each of them is drawn, in proportion."""
SKEWS_MS: Final = (-3_600_000, -90_000, -5_000, 5_000, 50_000, 90_000, 900_000)
LENGTH_S: Final = 5.0
"""Of the time in which people write and things go wrong."""
_LONGEST_S: Final = 2.0


class Happening(Struct, frozen=True):
    """Something that is going to happen. `device` is a number; `lasts_s` and `skew_ms` matter to some kinds."""

    at_s: float
    kind: Kind
    device: int = 0
    lasts_s: float = 0.0
    skew_ms: int = 0

    @property
    def text(self) -> str:
        """For the trace."""
        return f"{self.kind} device={self.device} lasts={self.lasts_s:.2f} skew={self.skew_ms}"


def draw_schedule(random: Random, devices: int) -> list[Happening]:
    """Writes and faults in order of time."""
    writes = [
        Happening(random.random() * LENGTH_S, "write", random.randrange(devices)) for _ in range(random.randint(12, 30))
    ]
    shows = [Happening(random.random() * LENGTH_S, "show presence", one) for one in range(devices)]
    kinds, weights = list(FAULTS), list(FAULTS.values())
    faults = [
        Happening(
            random.random() * LENGTH_S,
            random.choices(kinds, weights)[0],
            random.randrange(devices),
            random.random() ** 2 * _LONGEST_S,
            random.choice(SKEWS_MS),
        )
        for _ in range(random.randint(3, 12))
    ]
    return sorted([*writes, *shows, *faults], key=lambda one: one.at_s)
