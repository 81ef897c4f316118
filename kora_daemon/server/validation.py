"""The app's own judgement on what devices upload: `[validate]` (store.md section 6.1, docs/validators.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog
import trio
from msgspec import Struct

from kora_daemon.auth.contract import AuthContext
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.record import Record, RecordQuery
from kora_daemon.server.readers import Readers
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.contract import Store

VALIDATOR_THREADS = 4
DEFAULT_TIMEOUT_S = 5.0
MAX_HUNG = 2
"""Calls for one batch that may be waited for in vain. Those that hang keep a thread each until they are over."""
MAX_BATCH_S = 20.0
"""For all operations of a batch; what is left then is refused for now. A device waits 30 s for its acknowledgment."""
_CODE_LENGTH = 64
_MESSAGE_LENGTH = 500

log = structlog.get_logger("kora.validate")


class Reject(Struct, frozen=True):
    """Refuse an operation. It stays with its device, which is told why; a retriable one it may send again."""

    code: str
    message: str
    retriable: bool = False


class Ignore(Struct, frozen=True):
    """Take an operation as handled: it is acknowledged and goes nowhere."""


IGNORE = Ignore()
_HUNG = Reject("VALIDATION_ERROR", "The operation could not be validated, send it again later", retriable=True)
_LATER = Reject("VALIDATION_ERROR", "The operation could not be validated, send it again later", retriable=True)


class Records(Protocol):
    """Read access to the records, as they are before the operation."""

    def query_collection(self, collection: str, query: RecordQuery | None = None) -> list[Record]:
        """The records that a query finds."""
        ...

    def find_record(self, collection: str, record_id: str) -> Record | None:
        """A live record, None where there is none."""
        ...

    def count_collection(self, collection: str, where: Mapping[str, object] | None = None) -> int:
        """How many live records have these values."""
        ...


class ValidationContext(Struct, frozen=True):
    """What a validator may know besides the operation. `auth` is who sent it."""

    auth: AuthContext
    records: Records


Validator = Callable[[dict[str, Any], ValidationContext], Reject | Ignore | None]
"""Is given an operation as it is on the wire (a value of its own to change) and returns None to accept it.

Runs in a thread, several at a time, before the operation is judged in any other way.
"""


class Verdicts(Struct):
    """What is left of a batch. What is in neither list was to be ignored."""

    accepted: list[Operation]
    rejections: list[Rejection]


class Validation:
    """Asks the validator about batches. One that raises, or takes longer than `timeout_s`, refuses for now."""

    def __init__(
        self, validator: Validator, store: Store, readers: Readers, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._validator = validator
        self._store = store
        self._readers = readers
        self._timeout_s = timeout_s
        self._threads = ThreadPool("kora-validator", VALIDATOR_THREADS)
        self._running: set[str] = set()
        """Ids of the operations that a thread is at."""
        self._hanging: set[str] = set()
        """Of these, the ones that nobody waits for any more."""

    async def judge(self, operations: Sequence[Operation], auth: AuthContext) -> Verdicts:
        """Judge a batch, in order. Raises StoreError.

        What is in the log already is not asked about again: a device would drop what all others have.
        """
        known = await self._readers.read(lambda store: store.known_ids([one.id for one in operations]))
        context = ValidationContext(auth, self._store)
        verdicts = Verdicts([], [])
        ends_at = trio.current_time() + MAX_BATCH_S
        hung = 0
        for operation in operations:
            verdict: Reject | Ignore | None = None
            if operation.id not in known:
                late = hung == MAX_HUNG or trio.current_time() >= ends_at
                verdict = _LATER if late else await self._ask(operation, context)
                hung += verdict is _HUNG
            if verdict is None:
                verdicts.accepted.append(operation)
            elif isinstance(verdict, Reject):
                verdicts.rejections.append(_rejection(operation, verdict))
        return verdicts

    def _call(self, operation: Operation, context: ValidationContext) -> Reject | Ignore | None:
        self._hanging.discard(operation.id)
        self._running.add(operation.id)
        try:
            return self._validator(json.loads(msgspec.json.encode(operation)), context)
        except SystemExit as error:
            raise RuntimeError("it wants the process to exit") from error
        finally:
            self._running.discard(operation.id)
            self._hanging.discard(operation.id)

    async def _ask(self, operation: Operation, context: ValidationContext) -> Reject | Ignore | None:
        if operation.id in self._hanging and operation.id in self._running:
            # Sent again, as it was told to be: its first call still has a thread, and must not get another one.
            return _LATER
        has_begun = False

        def call() -> Reject | Ignore | None:
            nonlocal has_begun
            has_begun = True
            return self._call(operation, context)

        try:
            with trio.fail_after(self._timeout_s):
                verdict = await self._threads.run_abandonable(call)
        except trio.TooSlowError:
            if operation.id in self._running:
                self._hanging.add(operation.id)
            if has_begun:
                log.error("validate.hangs", operation=operation.id, seconds=self._timeout_s)
            else:
                log.error("validate.no_thread", operation=operation.id, seconds=self._timeout_s)
            return _HUNG
        except Exception as error:  # whatever it is, it is the app's own
            problem = repr(error)
        else:
            if verdict is None or isinstance(verdict, Reject | Ignore):
                return verdict
            problem = f"returned {type(verdict).__name__}, expected None, Reject or Ignore"
        log.error("validate.failed", operation=operation.id, collection=operation.collection, problem=problem)
        return _LATER


def _rejection(operation: Operation, verdict: Reject) -> Rejection:
    return Rejection(
        operation.id,
        operation.collection,
        operation.record_id,
        str(verdict.code)[:_CODE_LENGTH],
        str(verdict.message)[:_MESSAGE_LENGTH],
        bool(verdict.retriable),
    )
