"""Log lines: their form, their level, and what never stands in them (ARCHITECTURE section 3, issue 2 item 9)."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import Any

import pytest
import structlog

from kora_daemon import log as logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


Stderr = pytest.CaptureFixture[str]


def lines(capsys: Stderr) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_json_line_begins_with_when_how_bad_and_what(capsys: Stderr) -> None:
    logs.configure("info", "json")
    structlog.get_logger("kora.test").info("session.closed", node="n", code=1001)

    (line,) = lines(capsys)
    assert list(line) == ["timestamp", "level", "event", "node", "code"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {"level": "info", "event": "session.closed", "node": "n", "code": 1001}


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "error"]),
        ("info", ["info", "warning", "error", "error"]),
        ("warning", ["warning", "error", "error"]),
        ("error", ["error", "error"]),
    ],
)
def test_only_lines_of_the_level_and_worse_are_written(capsys: Stderr, level: str, written: list[str]) -> None:
    logs.configure(level, "json")
    logger = structlog.get_logger()
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    logger.exception("e")
    assert [line["level"] for line in lines(capsys)] == written


def test_a_new_level_and_format_hold_for_loggers_that_are_in_use(capsys: Stderr) -> None:
    logs.configure("warning", "json")
    bound = structlog.get_logger().bind(node="n")
    bound.info("unheard")

    logs.configure("debug", "json")
    bound.debug("heard")
    logs.configure("error", "console")
    bound.warning("unheard")
    bound.error("seen")

    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["event"] == "heard"
    assert "seen" in second
    assert "node='n'" in second


def test_auto_is_console_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("info", "auto")
        structlog.get_logger().info("daemon.ready")
        assert stream.getvalue().startswith("{") is is_json
        assert "daemon.ready" in stream.getvalue()


def test_a_console_that_is_no_terminal_has_no_colours(capsys: Stderr) -> None:
    logs.configure("info", "console")
    structlog.get_logger().info("daemon.ready", port=1)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_masked_at_any_depth(capsys: Stderr, format: str) -> None:
    logs.configure("info", format)
    secret = "canary"
    structlog.get_logger().bind(token=secret).info(
        "auth.refused",
        auth_token=secret,
        authToken=secret,
        secret=secret,
        password=secret,
        Authorization=secret,
        headers={"authorization": secret, "deep": {"cookie": secret, "kept": "visible"}},
    )
    written = capsys.readouterr().err
    assert secret not in written
    assert "visible" in written


def test_names_that_only_resemble_a_secrets_are_not_masked(capsys: Stderr) -> None:
    logs.configure("info", "json")
    structlog.get_logger().info("auth.loaded", tokens=3, token_count=4)
    (line,) = lines(capsys)
    assert (line["tokens"], line["token_count"]) == (3, 4)


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(capsys: Stderr, format: str) -> None:
    logs.configure("info", format)
    hidden = "".join(["can", "ary"])
    try:
        _fail(hidden)
    except ZeroDivisionError:
        structlog.get_logger().exception("session.crashed")
    written = capsys.readouterr().err
    assert "ZeroDivisionError" in written
    assert hidden not in written


def _fail(local: str) -> float:
    return len(local) / 0


def test_a_peers_text_can_neither_fake_a_line_nor_move_the_cursor(capsys: Stderr) -> None:
    for format in ("console", "json"):
        logs.configure("info", format)
        structlog.get_logger().info("session.joined", node="x\n2026 [error] daemon.died \x1b[2J\ud800")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 2
    assert "\x1b" not in written


def test_a_line_that_can_not_be_written_does_not_stop_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (FullDisk(), closed):
        logs.configure("info", "json")
        monkeypatch.setattr(sys, "stderr", stream)
        structlog.get_logger().info("daemon.ready")
        monkeypatch.undo()
