"""Simulated worlds: whatever goes wrong in them, nothing is lost, doubled, shown to strangers or left behind.

`KORA_TORTURE_SEEDS` says how many. What fails here fails again with the command that the failure names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from kora_daemon.apply import work
from kora_daemon.materialization.fold import advance
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation, Timestamp
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.server import tail
from kora_daemon.server.submissions import Submissions
from kora_daemon.server.write_requests import WriteRequest
from kora_daemon.torture import oracle, schedule
from kora_daemon.torture.run import StoreKind, run_seed
from koractl.app import main

SEEDS = int(os.environ.get("KORA_TORTURE_SEEDS", "100"))
ENOUGH = 60
"""Seeds within which a broken daemon has to be found out; most are by the first few."""


@pytest.mark.parametrize(("store", "seeds"), [("memory", SEEDS), ("sqlite", max(1, SEEDS // 10))])
def test_all_is_well(store: StoreKind, seeds: int) -> None:
    failed = {}
    for seed in range(1, seeds + 1):
        verdict = run_seed(seed, store)
        if verdict.violations:
            failed[verdict.replay] = verdict.violations
    assert failed == {}


def test_a_seed_comes_out_the_same_again() -> None:
    first, second, other = (run_seed(seed, keep_trace=True) for seed in (7, 7, 8))
    assert first.trace == second.trace
    assert first.digest == second.digest != other.digest


def test_in_any_process() -> None:
    command = [sys.executable, "-m", "koractl", "torture", "--seed", "7", "--seeds", "1"]
    stories = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True)
        for salt in ("1", "2")
    ]
    told = [story.stdout.splitlines() for story in stories]
    assert told[0][:-1] == told[1][:-1]
    assert told[0][-2] == f"digest {run_seed(7).digest}"


def test_every_kind_of_trouble_is_drawn() -> None:
    drawn = {kind for seed in range(1, SEEDS + 1) for kind in run_schedule(seed)}
    assert drawn == {*schedule.FAULTS, "write", "show presence"}


def run_schedule(seed: int) -> set[str]:
    from random import Random

    return {one.kind for one in schedule.draw_schedule(Random(seed), schedule.LARGE, 3)}


# -- daemons that are broken on purpose


def first_violation() -> str:
    """What the oracle says of a broken daemon."""
    for seed in range(1, ENOUGH + 1):
        if violations := run_seed(seed).violations:
            return violations[0]
    return "none"


def test_it_finds_out_who_acknowledges_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Submissions, batch: do.Commit, operations: Sequence[Operation], refused: Any = ()) -> None:
        request = WriteRequest(
            operations, batch.size_bytes, self._session.number, lambda outcome: None, self._authority
        )
        self._services.writer.submit(request)
        self._happened(on.Committed(list(refused)))

    monkeypatch.setattr(Submissions, "submit", hasty)
    assert "acknowledged, which is not stored" in first_violation()


def test_it_finds_out_who_shows_everybody_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them(_view: Any, entries: Sequence[DeliveryEntry], _known: Any) -> list[DeliveryEntry]:
        return list(entries)

    monkeypatch.setattr(tail, "entries_by_stamps", all_of_them)
    assert "out of its scope" in first_violation()


def test_it_finds_out_who_takes_late_operations_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(state: Any, operation: Operation, data: JsonValue) -> Any:
        late = state is not None and operation.timestamp.order_key < state.last
        if late:
            operation = Operation(
                **{name: getattr(operation, name) for name in operation.__struct_fields__}
                | {"timestamp": Timestamp(*state.last)}
            )
        return advance(state, operation, data)

    monkeypatch.setattr(work, "advance", careless)
    assert "the records of" in first_violation()


# -- the command


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["torture", "--processes", "1", *arguments])
    return int(ended.value.code or 0)


def test_the_command_says_how_to_see_a_failure_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(oracle, "folded", lambda operations, fields: {"_deleted": False})
    assert exit_code("--seed", "1", "--seeds", "2", "--json") == 1
    failed = json.loads(capsys.readouterr().out)["failed"]
    assert [one["replay"] for one in failed] == [f"kora torture --seed {seed} --seeds 1" for seed in (1, 2)]
    assert exit_code("--seed", "1", "--seeds", "2", "--store", "sqlite") == 1
    told = capsys.readouterr().out
    assert "    kora torture --seed 1 --seeds 1 --store sqlite\n" in told
    assert told.splitlines()[-1].startswith("2 seeds, 2 failed: ")


def test_the_command_stops_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--minutes", "0") == 0
    assert capsys.readouterr().out.startswith("0 seeds, 0 failed")
