"""What is fuzzed: a way to take an input, and where inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from tests.fuzz.mutation import Mutator


class Disagreement(AssertionError):
    """Two ways to the same thing found different things."""


def same(first: object, second: object, what: str) -> None:
    """Raises Disagreement unless both are equal."""
    if first != second:
        raise Disagreement(f"{what}: {str(first)[:300]!a} is not {str(second)[:300]!a}")


class Target(Struct, frozen=True):
    """`run` takes an input and returns, whatever it is: what it raises is a failure.

    `seeds` are inputs to begin with, `mutate` makes another one out of one. `share` is the target's part of a campaign.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutator
    share: int = 1
