"""What `kora config check` and `kora serve --check` look at besides the file itself."""

from __future__ import annotations

from kora_daemon.config import Settings
from kora_daemon.model.schema import Schema


def check_settings(settings: Settings) -> Schema | None:
    """Read the schema file and the keys, import the app's code, look at the user tables; the schema.

    Raises ConfigError.
    """
    # Here, so that what checks nothing doesn't wait for the server's modules.
    from kora_daemon.auth.contract import Tended  # noqa: PLC0415
    from kora_daemon.log import configure  # noqa: PLC0415
    from kora_daemon.parts import build_auth, load_parts  # noqa: PLC0415

    configure(settings.log.level, settings.log.format)
    parts = load_parts(settings)
    provider = build_auth(settings, parts)
    if isinstance(provider, Tended):
        provider.close()
    return parts.schema
