"""What all commands have in common: how they are used, in words that do not depend on the version of Typer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from koractl.manual import argument_usage

F = TypeVar("F", bound=Callable[..., Any])


class Commands(typer.Typer):
    """An app, or a group of its commands."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:  # noqa: ANN401
        """Make a function a command."""
        return super().command(name, cls=_Command, **options)


class _Command(TyperCommand):
    def collect_usage_pieces(self, ctx: object) -> list[str]:
        """What stands behind the command's name; `ctx` makes no difference."""
        del ctx
        return ["[OPTIONS]", *([] if self.callback is None else argument_usage(self.callback))]
