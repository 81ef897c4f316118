"""Source `command`: a child of ours that judges tokens, one JSON object per line in and out (auth.md section 6).

In: {"id", "token", "nodeId", "address"}. Out, in any order: {"id", "userId", …} accepts, {"id", "userId": null} or
{"id", "answer": null} refuses, {"id", "error": …} can't say now. What the child writes to stderr goes to ours.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, BinaryIO, Final

import structlog

from kora_daemon.auth.contract import Caller
from kora_daemon.auth.web import question
from kora_daemon.errors import AuthUnavailable

MAX_LINE_BYTES: Final = 1 << 20
LEAST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0
"""A child that has lived so long begins again with the least pause."""
_END_WAIT_S: Final = 2.0

log = structlog.get_logger("kora.auth")


class _Child:
    """One run of the program."""

    def __init__(self, command: Sequence[str]) -> None:
        self.started_at = time.monotonic()
        self.heard_at = self.started_at
        self.waiting: dict[int, Future[Any]] = {}
        self._process = subprocess.Popen(  # noqa: S603  the operator's own program, without a shell
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        self.is_over = False
        Thread(target=self._listen, name="kora-auth-child", daemon=True).start()

    def say(self, line: bytes) -> None:
        """Write a line; blocks while the child does not read. Raises OSError."""
        pipe: Any = self._process.stdin
        rest = memoryview(line)
        while rest:
            rest = rest[pipe.write(rest) :]

    def end(self) -> None:
        """End it, kindly first."""
        self.is_over = True
        with suppress(OSError):
            self._process.terminate()
        try:
            self._process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._give_up()

    def _listen(self) -> None:
        pipe: Any = self._process.stdout
        buffered: BinaryIO
        with open(pipe.fileno(), "rb", closefd=False) as buffered:
            while line := buffered.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    log.error("auth.command_failed", problem=f"a line of more than {MAX_LINE_BYTES} bytes")
                    break
                self.heard_at = time.monotonic()
                self._hear(line)
        self.is_over = True
        with suppress(OSError):
            self._process.kill()
        code = self._process.wait()
        log.warning("auth.command_ended", code=code)
        self._give_up()

    def _hear(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
            number = answer.pop("id")
            waiting = self.waiting.pop(number, None) if isinstance(number, int) else None
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            log.error("auth.command_failed", problem="a line that is no JSON object with an id")
            return
        if waiting is not None:
            waiting.set_result(answer)

    def _give_up(self) -> None:
        while self.waiting:
            with suppress(KeyError):
                self.waiting.popitem()[1].set_exception(AuthUnavailable("The auth command has ended"))


class CommandHook:
    """Asks the child, and starts it again when it has ended: at once, then with pauses that double up to 30 s."""

    def __init__(
        self, command: Sequence[str], timeout_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = Lock()
        self._child: _Child | None = None
        self._pause_s = 0.0
        self._not_before = 0.0
        self._is_closed = False

    def __call__(self, token: str, caller: Caller) -> Any:  # noqa: ANN401  checked by `read_answer`
        """Ask about a token. Blocks. Raises AuthUnavailable."""
        number = next(self._numbers)
        asked_at = time.monotonic()
        future: Future[Any] = Future()
        if not self._lock.acquire(timeout=self._timeout_s):
            raise AuthUnavailable("The auth command does not read what it is asked")
        try:
            child = self._running()
            child.waiting[number] = future
            if child.is_over:
                raise AuthUnavailable("The auth command has ended")
            child.say(question(token, caller, number) + b"\n")
        except OSError:
            raise AuthUnavailable("The auth command does not listen any more") from None
        finally:
            self._lock.release()
        try:
            answer = future.result(max(0.0, self._timeout_s - (time.monotonic() - asked_at)))
        except LateError:
            child.waiting.pop(number, None)
            if child.heard_at < asked_at:
                log.error("auth.command_failed", problem=f"not a word for {self._timeout_s:g} s; it is started again")
                child.end()
            raise AuthUnavailable(f"The auth command has not answered within {self._timeout_s:g} s") from None
        return read_line(answer)

    def close(self) -> None:
        """End the child for good."""
        with self._lock:
            self._is_closed = True
            if self._child is not None:
                self._child.end()
                self._child = None

    def _running(self) -> _Child:
        if self._is_closed:
            raise AuthUnavailable("The auth command was stopped with its server")
        child, now = self._child, self._clock()
        if child is not None and not child.is_over:
            return child
        if child is not None:
            if now - child.started_at > HEALTHY_AFTER_S:
                self._pause_s = 0.0
            self._child = None
            self._not_before = now + self._pause_s
            self._pause_s = min(max(2 * self._pause_s, LEAST_PAUSE_S), MOST_PAUSE_S)
        if now < self._not_before:
            raise AuthUnavailable("The auth command has ended and is not started again yet")
        try:
            self._child = _Child(self._command)
        except OSError as error:
            self._pause_s = min(max(2 * self._pause_s, LEAST_PAUSE_S), MOST_PAUSE_S)
            self._not_before = now + self._pause_s
            raise AuthUnavailable(f"{self._command[0]} can't be started: {error.strerror}") from None
        log.info("auth.command_started", program=self._command[0])
        return self._child


def read_line(answer: dict[str, Any]) -> Any:  # noqa: ANN401  checked by `read_answer`
    """The hook's answer in a line without its id. Raises AuthUnavailable when the child can't say."""
    if "error" in answer:
        raise AuthUnavailable("The auth command can't say now")
    if "answer" in answer:
        return answer["answer"]
    return None if answer.get("userId") in (None, False) and "userId" in answer else answer
