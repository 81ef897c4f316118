"""The configuration: `Settings`, read from a TOML file and the environment by `load_settings` (config.md).

`settings`, `auth` and `app` declare every key; `keys`, `kinds` and `formats` are what they are declared with. `reader`
turns a document into settings, `rules` and `auth_rules` say what keys must fulfil together. `shown` and `reference`
write settings and their documentation.
"""

from kora_daemon.config.app import RouteSettings, StaticSettings, ValidateSettings
from kora_daemon.config.auth import (
    AnonymousSettings,
    AuthSettings,
    GrantSettings,
    JwtSettings,
    KoraAuthSettings,
    StaticTokenSettings,
)
from kora_daemon.config.load import load_settings
from kora_daemon.config.settings import (
    AdminSettings,
    AwarenessSettings,
    BlobSettings,
    LimitSettings,
    LogSettings,
    RecordSettings,
    ServerSettings,
    Settings,
    StoreSettings,
)

__all__ = [
    "AdminSettings",
    "AnonymousSettings",
    "AuthSettings",
    "AwarenessSettings",
    "BlobSettings",
    "GrantSettings",
    "JwtSettings",
    "KoraAuthSettings",
    "LimitSettings",
    "LogSettings",
    "RecordSettings",
    "RouteSettings",
    "ServerSettings",
    "Settings",
    "StaticSettings",
    "StaticTokenSettings",
    "StoreSettings",
    "ValidateSettings",
    "load_settings",
]
