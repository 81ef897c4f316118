"""What a node has seen, and the order in which causes come before effects (store.md section 1.3).

A version vector maps node id -> largest sequence number seen; a missing node counts as 0. It is a maximum: it does not
promise that everything below is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from operator import attrgetter

from kora_daemon.model.delivery import CausalKey
from kora_daemon.model.jsvalue import canonical_json, utf16_key


def merge_vectors(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Everything that either has seen."""
    merged = dict(left)
    for node_id, sequence in right.items():
        merged[node_id] = max(merged.get(node_id, 0), sequence)
    return merged


def advance_vector(vector: Mapping[str, int], node_id: str, sequence: int) -> dict[str, int]:
    """The vector after `sequence` of a node was seen; it never goes back."""
    return merge_vectors(vector, {node_id: sequence})


def dominates(left: Mapping[str, int], right: Mapping[str, int]) -> bool:
    """Whether `left` has seen all that `right` has seen."""
    return all(left.get(node_id, 0) >= sequence for node_id, sequence in right.items())


def vectors_equal(left: Mapping[str, int], right: Mapping[str, int]) -> bool:
    """Exact equality: an entry of 0 is not the same as none."""
    return dict(left) == dict(right)


def vector_text(vector: Mapping[str, int]) -> str:
    """Text form: a JSON list of [node id, sequence], node ids by UTF-16 unit."""
    return canonical_json([[node_id, vector[node_id]] for node_id in sorted(vector, key=utf16_key)])


def causal_order(keys: Sequence[CausalKey]) -> list[CausalKey]:
    """Put log entries into causal order: always the earliest by clock among those whose causes are all placed.

    Causes outside the set are ignored. Equal timestamps go by delivery sequence: the order of `keys` does not matter.
    Never raises: where a cycle blocks everything, the earliest of the entries left goes next. O(n log n + causes).
    """
    ranked = sorted(keys, key=attrgetter("sequence"))
    ranked.sort(key=attrgetter("order_key"))
    rank_of = {key.id: rank for rank, key in enumerate(ranked)}
    if _clock_agrees(ranked, rank_of):
        return ranked
    return [ranked[rank] for rank in _placed_ranks(ranked, rank_of)]


def _clock_agrees(ranked: Sequence[CausalKey], rank_of: Mapping[str, int]) -> bool:
    """Whether every cause comes before its effect by clock already, as in a log of well-behaved devices."""
    return not any(rank_of.get(cause, -1) >= rank for rank, key in enumerate(ranked) for cause in key.causal_deps)


def _placed_ranks(ranked: Sequence[CausalKey], rank_of: Mapping[str, int]) -> list[int]:
    """Kahn's algorithm with the smallest rank first and cycles cut open."""
    open_causes = [0] * len(ranked)
    effects: dict[int, list[int]] = {}
    for rank, key in enumerate(ranked):
        for cause in key.causal_deps:
            if cause in rank_of:
                open_causes[rank] += 1
                effects.setdefault(rank_of[cause], []).append(rank)
    ready = [rank for rank, count in enumerate(open_causes) if not count]  # ascending, hence a heap
    placed: list[int] = []
    is_placed = bytearray(len(ranked))
    earliest_left = 0
    while len(placed) < len(ranked):
        if ready:
            rank = heappop(ready)
        else:
            rank = earliest_left = is_placed.index(0, earliest_left)
        placed.append(rank)
        is_placed[rank] = 1
        for effect in effects.get(rank, ()):
            open_causes[effect] -= 1
            if not open_causes[effect] and not is_placed[effect]:
                heappush(ready, effect)
    return placed
