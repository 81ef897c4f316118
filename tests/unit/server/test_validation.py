"""Judging without a thread to judge in; what validators say is under test in tests/integration/test_records.py."""

from __future__ import annotations

from typing import Any

import structlog
import trio

from kora_daemon.auth.contract import AuthContext
from kora_daemon.server.readers import Readers
from kora_daemon.server.validation import Validation, ValidationContext
from kora_daemon.store.memory import MemoryStore
from tests.support.log import operation
from tests.unit.server.conftest import Shortage


async def test_a_validator_that_gets_no_thread_is_not_said_to_hang(shortage: Shortage) -> None:
    asked: list[str] = []

    def validator(wire: dict[str, Any], _context: ValidationContext) -> None:
        asked.append(wire["id"])

    store, one = MemoryStore(), operation(1)
    store.open()
    validation = Validation(validator, store, Readers(store), timeout_s=0.2)
    with structlog.testing.capture_logs() as logged, trio.fail_after(5):
        verdict = await validation._ask(one, ValidationContext(AuthContext("ali"), store))
    assert verdict is not None
    assert [entry["event"] for entry in logged] == ["threads.exhausted", "validate.no_thread"]
    assert asked == []
    shortage.is_over = True
    assert (await validation.judge([one], AuthContext("ali"))).accepted == [one]
    assert asked == [one.id]
