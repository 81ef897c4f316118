"""What all commands have in common: `--debug`, and a usage line that does not depend on the version of Typer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from koractl.manual import argument_usage
from koractl.options import DebugOption

F = TypeVar("F", bound=Callable[..., Any])


class Commands(typer.Typer):
    """An app, or a group of its commands."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:  # noqa: ANN401
        """Make a function a command."""
        register = super().command(name, cls=_Command, **options)

        def made(function: F) -> F:
            register(_with_debug(function))
            return function

        return made


class _Command(TyperCommand):
    def collect_usage_pieces(self, ctx: object) -> list[str]:
        """What stands behind the command's name; `ctx` makes no difference."""
        del ctx
        return ["[OPTIONS]", *([] if self.callback is None else argument_usage(self.callback))]


def _with_debug(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command with one option more; what it does is the business of the option itself."""

    @wraps(function)
    def command(*, debug: bool, **given: Any) -> None:  # noqa: ANN401  as the signature below says
        del debug
        function(**given)

    declared = signature(function, eval_str=True)
    debug = Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption)
    parameters = [*declared.parameters.values(), debug]
    # What typer and the manual go by.
    command.__signature__ = declared.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
