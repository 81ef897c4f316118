"""The command `kora` as a user meets it: what it prints where, and its exit codes (config.md, The command kora)."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kora_daemon.config import Settings
from kora_daemon.errors import KoraError, StoreUnavailable
from kora_daemon.version import VERSION
from koractl.app import main

Captured = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, str, str]]
Serve = Callable[[Settings, Callable[[list[str]], None]], None]


@pytest.fixture
def kora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Run:
    """Runs `kora` in an empty folder with no KORA_ variable: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KORA_CONFIG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    """Puts a daemon of the test's own behind `kora serve`."""

    def use(run: Serve) -> None:
        module: Any = ModuleType("kora_daemon.daemon")
        module.run = run
        monkeypatch.setitem(sys.modules, "kora_daemon.daemon", module)

    return use


def test_the_version_is_told_by_command_and_option(kora: Run) -> None:
    assert kora("version") == kora("--version") == (0, f"kora {VERSION}\n", "")


def test_a_mistake_in_the_command_line_is_a_usage_error(kora: Run) -> None:
    for arguments in (["serve", "--prt"], ["srve"], ["config", "shw"], ["init", "a", "b"]):
        code, out, err = kora(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert "--help" in err


def test_help_names_every_command(kora: Run) -> None:
    code, out, _ = kora("--help")
    assert code == 0
    for command in ("init", "serve", "config", "token", "version"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)


def test_a_missing_file_is_a_configuration_error_that_names_init(kora: Run) -> None:
    for command in (["serve"], ["serve", "--check"], ["config", "check"], ["config", "show"]):
        assert kora(*command) == (
            78,
            "",
            "kora: kora.toml: there is no such file; `kora init` writes one, --config names another\n",
        )


def test_a_file_that_this_user_may_not_read_is_a_configuration_error(
    kora: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    # What the system says to anybody but root.
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    Path("kora.toml").write_text("")
    for command in (["serve"], ["config", "check"], ["backup", "out.kora"]):
        code, out, err = kora(*command)
        assert (code, out) == (78, "")
        assert err.startswith("kora: kora.toml: this user may not read the file; run kora as one who may")


def test_every_problem_is_a_line_on_stderr(kora: Run) -> None:
    Path("kora.toml").write_text('[server]\nport = "x"\n[admin]\nadmin_token = 5\n')
    for command in (["serve"], ["serve", "--check"], ["config", "check"], ["config", "show"]):
        assert kora(*command) == (
            78,
            "",
            'kora: server.port (kora.toml): found "x", expected a whole number from 0 to 65535\n'
            "kora: admin.admin_token (kora.toml): found a number, expected a text that is not empty\n",
        )


def test_the_file_comes_from_the_option_then_from_the_environment_then_from_the_folder(
    kora: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port, name in ((1, "kora.toml"), (2, "environment.toml"), (3, "option.toml")):
        Path(name).write_text(f"[server]\nport = {port}")

    assert "port = 1 " in kora("config", "show")[1]
    monkeypatch.setenv("KORA_CONFIG", "")
    assert "port = 1 " in kora("config", "show")[1]
    monkeypatch.setenv("KORA_CONFIG", "environment.toml")
    assert "port = 2 " in kora("config", "show")[1]
    assert "port = 3 " in kora("config", "show", "--config", "option.toml")[1]


def test_config_show_prints_what_is_in_force_without_secrets(kora: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kora.toml").write_text('[admin]\nadmin_token = "s3cret"')
    monkeypatch.setenv("KORA_SERVER__PORT", "5000")
    code, out, err = kora("config", "show")
    assert (code, err) == (0, "")
    assert 'admin_token = "***"  # kora.toml' in out
    assert "port = 5000  # KORA_SERVER__PORT" in out
    assert "s3cret" not in out


def test_a_good_file_is_checked_without_serving(kora: Run, daemon: Callable[[Serve], None]) -> None:
    daemon(lambda settings, on_ready: pytest.fail("it was served"))
    Path("kora.toml").write_text("")
    for command in (["serve", "--check"], ["config", "check"]):
        code, out, err = kora(*command)
        assert (code, out.partition("\n")[0], err) == (0, "kora.toml is fine.", "")


def test_serve_runs_the_daemon_and_says_on_one_line_where_it_is(kora: Run, daemon: Callable[[Serve], None]) -> None:
    served: list[Settings] = []

    def run(settings: Settings, on_ready: Callable[[list[str]], None]) -> None:
        served.append(settings)
        on_ready(["ws://127.0.0.1:5000/", "ws://[::1]:5000/"])

    daemon(run)
    Path("kora.toml").write_text("[server]\nport = 5000")
    assert kora("serve") == (0, "Kora Daemon is ready on ws://127.0.0.1:5000/, ws://[::1]:5000/\n", "")
    assert served[0].server.port == 5000


def _failing(error: BaseException) -> Serve:
    def run(settings: Settings, on_ready: Callable[[list[str]], None]) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("the disk is full"),
        ExceptionGroup("nursery", [ExceptionGroup("nursery", [StoreUnavailable("the disk is full")])]),
    ],
)
def test_what_the_daemon_can_not_do_is_one_sentence(
    kora: Run, daemon: Callable[[Serve], None], error: BaseException
) -> None:
    daemon(_failing(error))
    Path("kora.toml").write_text("")
    assert kora("serve") == (1, "", "kora: the disk is full\n")


def test_an_error_of_ours_is_a_sentence_and_with_debug_a_traceback(kora: Run, daemon: Callable[[Serve], None]) -> None:
    daemon(_failing(ZeroDivisionError("division by zero")))
    Path("kora.toml").write_text("")
    sentence = "kora: an error inside kora: ZeroDivisionError: division by zero; --debug shows where\n"

    assert kora("serve") == (1, "", sentence)
    for arguments in (["serve", "--debug"], ["--debug", "serve"]):
        code, out, err = kora(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("Traceback")
        assert err.endswith(sentence)


def test_an_interrupt_is_no_error_of_ours(kora: Run, daemon: Callable[[Serve], None]) -> None:
    daemon(_failing(KeyboardInterrupt()))
    Path("kora.toml").write_text("")
    code, out, err = kora("serve")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_debug_shows_the_traceback_of_a_known_error_too(kora: Run, daemon: Callable[[Serve], None]) -> None:
    daemon(_failing(KoraError("no")))
    Path("kora.toml").write_text("")
    _, _, err = kora("serve", "--debug")
    assert err.startswith("Traceback")
    assert err.endswith("kora: no\n")


def test_a_start_waits_for_nothing_that_draws() -> None:
    loaded = (
        "import koractl.app, kora_daemon.daemon, sys; print([one for one in sys.modules if one.startswith('rich')])"
    )
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def started(folder: Path, module: str, number: signal.Signals, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A `kora` to which a signal comes while it imports this module."""
    program = f"""
import os, runpy, signal, sys

# Whoever runs the tests in the background may have these ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

class Watching:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number:d})

sys.meta_path.insert(0, Watching())
sys.argv[0] = "kora"
runpy.run_module("koractl", run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", ["structlog", "typer", "kora_daemon.errors", "koractl.version"])
def test_an_interrupted_start_says_nothing(tmp_path: Path, module: str) -> None:
    ended = started(tmp_path, module, signal.SIGINT, "version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_reload_that_comes_too_early_ends_no_daemon(tmp_path: Path) -> None:
    assert started(tmp_path, "typer", signal.SIGHUP, "--debug", "serve", "--check").returncode == 78  # there is no file
    assert started(tmp_path, "typer", signal.SIGHUP, "config", "check").returncode == -signal.SIGHUP
