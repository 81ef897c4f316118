"""What `kora serve` and `kora config check` look at: the file, and what it names."""

from __future__ import annotations

from pathlib import Path

from kora_daemon.config import Settings
from kora_daemon.config.load import Reading, read_settings
from kora_daemon.errors import ConfigError
from kora_daemon.model.schema import Schema


def valid_settings(config: Path) -> Settings:
    """The settings of a file. Raises ConfigError; then also with what is wrong in what the file names."""
    reading = read_settings(config)
    if reading.problems:
        raise ConfigError([*reading.problems, *_further_problems(reading)])
    return reading.settings


def _further_problems(reading: Reading) -> list[str]:
    """Of those parts that the problems of the file have nothing to do with."""
    broken = {path.replace("[", ".").partition(".")[0] for path in reading.broken}
    if broken & {"auth", "routes", "schema", "validate"}:
        return []
    try:
        check_settings(reading.settings)
    except ConfigError as error:
        return error.problems
    return []


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
