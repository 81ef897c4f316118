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
_LONGEST_S: Final = 2.0


class Size(Struct, frozen=True):
    """How much there is of everything: a number of devices is chosen, numbers of writes and of faults lie in a range.

    `length_s` is how long people write and things go wrong.
    """

    devices: tuple[int, ...]
    writes: tuple[int, int]
    faults: tuple[int, int]
    length_s: float


SMALL: Final = Size((2, 3, 3, 4), (3, 8), (1, 4), 1.5)
LARGE: Final = Size((3, 3, 4, 4, 5, 6), (12, 30), (3, 12), 5.0)
_LARGE_ONES: Final = 0.1
"""Of all worlds. A large one costs as much as three small ones. What takes two troubles that meet is found sooner in
small ones, what has to pile up in large ones; so a quarter of the time goes to these."""


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


def draw_size(random: Random) -> Size:
    """Of one world."""
    return LARGE if random.random() < _LARGE_ONES else SMALL


def draw_schedule(random: Random, size: Size, devices: int) -> list[Happening]:
    """Writes and faults in order of time."""
    writes = [
        Happening(random.random() * size.length_s, "write", random.randrange(devices))
        for _ in range(random.randint(*size.writes))
    ]
    shows = [Happening(random.random() * size.length_s, "show presence", one) for one in range(devices)]
    kinds, weights = list(FAULTS), list(FAULTS.values())
    faults = [
        Happening(
            random.random() * size.length_s,
            random.choices(kinds, weights)[0],
            random.randrange(devices),
            random.random() ** 2 * _LONGEST_S,
            random.choice(SKEWS_MS),
        )
        for _ in range(random.randint(*size.faults))
    ]
    return sorted([*writes, *shows, *faults], key=lambda one: one.at_s)
