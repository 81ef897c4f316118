"""Kinds with a meaning of their own: addresses, URLs, files, code, scopes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from kora_daemon.config.kinds import Kind, Unfit, any_of, kind_of_text, list_of, table_of, text, text_schema

Network = IPv4Network | IPv6Network
Scalar = str | int | float | bool

_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*(?:^|\.)\d+$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_HTTP_PATH = re.compile(r"/[!-~]*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
_HOOK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _is_address(given: str) -> bool:
    try:
        ip_address(given)
    except ValueError:
        return False
    return True


def host() -> Kind[str]:
    """An address or a name to listen on."""
    return kind_of_text(
        "an IPv4 address, an IPv6 address without brackets, or a host name",
        lambda given: _is_address(given) or _HOST_NAME.fullmatch(given) is not None,
    )


def network() -> Kind[Network]:
    """An address or a network."""
    expects = 'an address, or a network such as "10.0.0.0/8" with no bits set behind its prefix'

    def parse(value: object, base: Path) -> Network:
        del base
        if not isinstance(value, str):
            raise Unfit(expects)
        try:
            return ip_network(value)
        except ValueError:
            raise Unfit(expects) from None

    def dump(value: Network) -> str:
        return str(value.network_address) if value.num_addresses == 1 else str(value)

    return Kind(expects, parse, dump=dump, schema={"type": "string", "minLength": 1})


def http_path() -> Kind[str]:
    """A path of the HTTP surface that a user may take: none of the daemon's own (config.md, HTTP surface)."""

    def fits(given: str) -> bool:
        if not _HTTP_PATH.fullmatch(given) or set("?#") & set(given):
            return False
        return given.rstrip("/") not in ("/__kora", "/health", "/ready") and not given.startswith("/__kora/")

    return kind_of_text(
        'a path that begins with "/", is not under "/__kora" and not "/health" or "/ready"',
        fits,
        text_schema(pattern=r"^/[!-~]*$"),
    )


def origin() -> Kind[str]:
    """Where web pages come from, as browsers write it; "*" = anywhere."""
    return kind_of_text(
        'an origin such as "https://app.example.org" (scheme, host, port if it is not the usual one), or "*"',
        lambda given: given == "*" or _ORIGIN.fullmatch(given) is not None,
    )


def hook() -> Kind[str]:
    """A Python callable by name."""
    return kind_of_text(
        'a Python callable written as "package.module:function"',
        lambda given: _HOOK.fullmatch(given) is not None,
        text_schema(pattern=r"^[^\s:]+:[^\s:]+$"),
    )


def sha256() -> Kind[str]:
    """A SHA-256 digest, in lower case."""
    pattern = re.compile(r"[0-9a-fA-F]{64}")
    shape = kind_of_text("64 hexadecimal digits", lambda given: pattern.fullmatch(given) is not None)
    schema = text_schema(pattern=f"^{pattern.pattern}$")
    return Kind(shape.expects, lambda value, base: shape.parse(value, base).lower(), schema=schema)


def secret_of(least: int) -> Kind[str]:
    """A secret of at least `least` UTF-16 code units (auth.md section 2)."""
    return kind_of_text(
        f"a text of {least} or more characters",
        lambda given: len(given.encode("utf-16-le", "surrogatepass")) >= 2 * least,
    )


_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def bearer_token() -> Kind[str]:
    """A token that comes in an HTTP header, which carries no white space around it: it does not count here either."""
    shape = text()

    def parse(value: object, base: Path) -> str:
        token = shape.parse(value.strip(" \t\r\n") if isinstance(value, str) else value, base)
        if _UNSENDABLE.search(token):
            raise Unfit("a text that a header can carry: without line breaks and other control characters")
        return token

    return Kind(shape.expects, parse, schema=shape.schema)


def mask_url(given: object) -> str:
    """A URL or libpq keyword string without user, password and parameters; hides too much rather than too little."""
    without_user = re.sub(r"(?s)^([A-Za-z][\w+.-]*://)?.*@", r"\1***@", str(given))
    without_query = re.sub(r"(?s)\?.*", "?***", without_user)
    return re.sub(r"(?is)\w*pass.*", "***", without_query)


def url(*schemes: str) -> Kind[str]:
    """A URL of one of these schemes, with a host."""
    expects = "a URL that begins with " + " or ".join(f'"{scheme}://"' for scheme in schemes)

    def fits(given: str) -> bool:
        try:
            parts = urlsplit(given)
        except ValueError:
            return False
        return parts.scheme in schemes and bool(parts.hostname)

    shape = kind_of_text(expects, fits)
    return Kind(expects, shape.parse, mask=mask_url, schema=shape.schema)


def _is_postgres(given: str) -> bool:
    return re.match(r"postgres(ql)?://", given) is not None or re.match(r"\s*[a-z_]+\s*=", given) is not None


def postgres() -> Kind[str]:
    """What libpq calls a connection string."""
    shape = kind_of_text('a URL that begins with "postgresql://", or "host=… dbname=…"', _is_postgres)

    def parse(value: object, base: Path) -> str:
        return _for_libpq(shape.parse(value, base))

    return Kind(shape.expects, parse, mask=mask_url, schema=shape.schema)


def _for_libpq(given: str) -> str:
    # Here, so that nobody else waits for the driver.
    from kora_daemon.conninfo import BadConninfo, parameters  # noqa: PLC0415

    try:
        parameters(given)
    except BadConninfo as bad:
        raise Unfit(str(bad)) from None
    return given


def user_database() -> Kind[str]:
    """Where the user tables are (auth.md section 3): PostgreSQL, `sqlite:FILE`, or "" for none."""
    expects = 'a PostgreSQL URL, "sqlite:FILE", or "" to trust the signature alone'

    def parse(value: object, base: Path) -> str:
        if isinstance(value, str) and value.startswith("sqlite:") and value != "sqlite:":
            return f"sqlite:{base / value.removeprefix('sqlite:')}"
        if not isinstance(value, str) or (value and not _is_postgres(value)):
            raise Unfit(expects)
        return _for_libpq(value) if value else value

    return Kind(expects, parse, mask=mask_url, schema={"type": "string"})


def file_to_write() -> Kind[Path]:
    """A file or folder that need not exist yet."""
    expects = "a path"

    def parse(value: object, base: Path) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise Unfit(expects)
        return base / value

    return Kind(expects, parse, dump=str, schema={"type": "string", "minLength": 1})


MAX_SOCKET_PATH_BYTES = 107
"""What the system's address of a Unix socket has room for."""


def socket_path() -> Kind[Path | Literal[False]]:
    """Where a Unix socket is to be, or that there is to be none."""
    expects = f'a path of at most {MAX_SOCKET_PATH_BYTES} bytes, or "" or false for none'

    def parse(value: object, base: Path) -> Path | Literal[False]:
        if value is False or value == "":
            return False
        path = file_to_write().parse(value, base) if isinstance(value, str) else None
        if path is None or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise Unfit(expects)
        return path

    def read(given: str) -> object:
        return False if given.lower() == "false" else given

    schema = any_of({"type": "string"}, {"const": False})
    return Kind(expects, parse, read, dump=lambda path: str(path) if path else "", schema=schema)


def file_to_read() -> Kind[Path]:
    """A file that can be read now."""

    def parse(value: object, base: Path) -> Path:
        path = file_to_write().parse(value, base)
        try:
            path.open("rb").close()
        except OSError as exc:
            raise Unfit(f"a file that can be read ({exc.strerror})") from None
        return path

    return Kind("a file that can be read", parse, dump=str, schema=file_to_write().schema, is_file=True)


def folder() -> Kind[Path]:
    """A folder that exists."""

    def parse(value: object, base: Path) -> Path:
        path = file_to_write().parse(value, base)
        if not os.path.isdir(path):  # of a path that can't be one, a `Path` raises
            raise Unfit("a folder that exists")
        return path

    return Kind("a folder that exists", parse, dump=str, schema=file_to_write().schema)


def scalar() -> Kind[Scalar]:
    """A text, a number or true/false: what a scope field can be compared with."""
    expects = "a text, a number, or true or false"

    def parse(value: object, base: Path) -> Scalar:
        del base
        if not isinstance(value, str | int | float):
            raise Unfit(expects)
        return value

    return Kind(expects, parse, schema={"type": ["string", "number", "boolean"]})


def anything() -> Kind[Any]:
    """Any TOML value."""
    return Kind("a value", lambda value, base: value)


def claim_match() -> Kind[Any]:
    """What a claim is compared with: a scalar, or a list of them, one of which must be equal."""
    several = list_of(scalar(), "a text, a number, true or false, or a list of these", least=1)

    def parse(value: object, base: Path) -> object:
        return list(several.parse(value, base)) if isinstance(value, list) else scalar().parse(value, base)

    return Kind(several.expects, parse, schema=any_of(scalar().schema, several.schema))


def scopes() -> Kind[Mapping[str, Mapping[str, Scalar]]]:
    """A scope map (scopes.md section 1): collection -> field -> value or template."""
    fields = table_of(scalar(), "a table of fields, each with its value ({} = the whole collection)")
    return table_of(fields, "a table of collections, each a table of fields with their values")


def claim_paths() -> Kind[Mapping[str, str]]:
    """Name -> path of a claim."""
    return table_of(text(), "a table of names, each with the path of a claim")
