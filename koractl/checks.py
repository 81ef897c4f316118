"""What `kora config check` and `kora serve --check` look at besides the file itself."""

from __future__ import annotations

from kora_daemon.config import Settings


def check_settings(settings: Settings) -> None:
    """Read the schema file and the keys, import the app's code, look at the user tables. Raises ConfigError."""
    # Here, so that what checks nothing doesn't wait for the server's modules.
    from kora_daemon.auth.contract import Tended  # noqa: PLC0415
    from kora_daemon.log import configure  # noqa: PLC0415
    from kora_daemon.parts import build_auth, load_parts  # noqa: PLC0415

    configure(settings.log.level, settings.log.format)
    provider = build_auth(settings, load_parts(settings))
    if isinstance(provider, Tended):
        provider.close()
