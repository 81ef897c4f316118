"""What `kora config check` and `kora serve --check` look at besides the file itself."""

from __future__ import annotations

from kora_daemon.config import Settings


def check_settings(settings: Settings) -> None:
    """Read the schema file and import the app's code. Raises ConfigError."""
    # Here, so that what checks nothing doesn't wait for the server's modules.
    from kora_daemon.parts import load_parts  # noqa: PLC0415

    load_parts(settings)
