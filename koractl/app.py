"""The Typer app, and the one place where an error becomes a line on stderr and an exit code (config.md)."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated, NoReturn

from koractl import EXIT_INTERRUPTED

try:
    import typer

    from kora_daemon.errors import ConfigError, KoraError
    from koractl import (
        apply,
        backups,
        bench,
        blobs,
        config,
        doctor,
        explain,
        init,
        manual,
        records,
        reload,
        running,
        serve,
        tables,
        token,
        torture,
        version,
    )
    from koractl.commands import Commands
    from koractl.options import DebugOption, Invocation
except KeyboardInterrupt:  # most of the first second is spent here
    sys.exit(EXIT_INTERRUPTED)

EXIT_FAILURE = 1
EXIT_BROKEN_PIPE = 141  # as of a program that SIGPIPE ends
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h

app = Commands(
    name="kora",
    help="Kora Daemon: a self-hosted sync server for Kora.js apps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("migrate")(tables.migrate)
app.command("backfill")(tables.backfill)
app.command("query")(records.query)
app.command("count")(records.count)
app.command("apply")(apply.apply)
app.command("status")(running.status)
app.command("sessions")(running.sessions)
app.command("kick")(running.kick)
app.command("tail")(running.tail)
app.command("explain")(explain.explain)
app.command("reload")(reload.reload)
app.command("backup")(backups.backup)
app.command("restore")(backups.restore)
app.add_typer(blobs.app, name="blobs")
app.add_typer(config.app, name="config")
app.add_typer(token.app, name="token")
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.command("torture")(torture.torture)
app.command("man")(manual.man)
app.command("version")(version.version)


@app.callback()
def _root(
    debug: DebugOption = False,
    version_only: Annotated[
        bool, typer.Option("--version", callback=version.show_and_exit, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del debug, version_only


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 ok, 1 failure, 2 usage, 78 configuration.

    `arguments` are those of the process unless given.
    """
    invocation = Invocation()
    try:
        app(arguments, prog_name="kora", obj=invocation)
        code = 0
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever reads us has enough. Nothing is to be written any more, at the exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    except Exception as error:  # The last barrier: whatever it is, the user gets a sentence.
        if invocation.debug:
            traceback.print_exception(error)
        code = max(_report(one) for one in _leaves(error))
    sys.exit(code)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What went wrong, out of the groups that nurseries wrap it in."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _report(error: BaseException) -> int:
    """Say on stderr what is wrong; return the exit code."""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _complain(problem)
        return EXIT_CONFIG
    if isinstance(error, KoraError):
        _complain(str(error))
    elif isinstance(error, OSError) and error.filename is None:
        # Files of ours are named where they are opened: this is what we write to.
        _complain(f"the output can't be written: {error.strerror}; send it somewhere else")
    else:
        _complain(f"an error inside kora: {type(error).__name__}: {error}; --debug shows where")
    return EXIT_FAILURE


def _complain(sentence: str) -> None:
    typer.echo(f"kora: {sentence}", err=True)
