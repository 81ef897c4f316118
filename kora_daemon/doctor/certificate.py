"""The TLS certificate: until when it is good, for which names, and whether browsers will trust it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, failure, fine, warning

SOON = timedelta(days=30)
Name = DNSName | IPAddress


def certificate(settings: Settings) -> Iterator[Check]:
    """The certificate that devices are shown, where there is one."""
    path, key = settings.server.tls_certificate, settings.server.tls_key
    if path is not None and key is not None:
        yield Check("tls.validity", lambda: validity(path))
        yield Check("tls.key", lambda: _key(path, key))
        yield Check("tls.names", lambda: _names(path, settings.server.host))
        yield Check("tls.chain", lambda: _chain(path))


def validity(path: Path) -> Finding:
    """How long the first certificate of a file is good. Raises ValueError for a file without one."""
    (first, *_) = load_pem_x509_certificates(path.read_bytes())
    now, begin, end = datetime.now(UTC), first.not_valid_before_utc, first.not_valid_after_utc
    renew = "renew it, then kora reload (SIGHUP)"
    if now < begin:
        return failure(f"{path} is not good before {begin:%Y-%m-%d %H:%M} UTC", "check the clock of this host")
    if now >= end:
        return failure(f"{path} expired on {end:%Y-%m-%d %H:%M} UTC", renew)
    found = f"{path} is good until {end:%Y-%m-%d}, for {(end - now).days} days"
    return warning(found, renew) if end - now < SOON else fine(found)


def _key(path: Path, key: Path) -> Finding:
    (first, *_) = load_pem_x509_certificates(path.read_bytes())
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private = load_pem_private_key(key.read_bytes(), password=None)
    if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        return failure(f"{key} is not the key of {path}", "name the files that were issued together")
    return fine(f"{key} is the key of {path}")


def _names(path: Path, hosts: Sequence[str]) -> Finding:
    (first, *_) = load_pem_x509_certificates(path.read_bytes())
    names = _alternative_names(first)
    if not names:
        return failure(
            f"{path} has no subjectAltName: no client takes it", "have it issued with the host's names in it"
        )
    shown = [str(name.value) for name in names]
    missing = [host for host in hosts if not _is_address(host) and host != "localhost" and not _covers(shown, host)]
    if missing:
        return warning(
            f"{path} is for {', '.join(shown)}, and not for {', '.join(missing)}", "add it, if devices use it"
        )
    return fine(f"{path} is for {', '.join(shown)}")


def _chain(path: Path) -> Finding:
    first, *others = load_pem_x509_certificates(path.read_bytes())
    names = _alternative_names(first)
    if first.issuer == first.subject:
        return warning(
            f"{path} is signed by itself: only devices that were told so trust it", "have one issued by a CA"
        )
    roots = _trusted_roots()
    if not names or not roots:
        return fine(f"{path} has a chain of {len(others) + 1}")
    try:
        verifier = PolicyBuilder().store(Store(roots)).build_server_verifier(names[0])
        verifier.verify(first, others)
    except VerificationError as error:
        return warning(
            f"{path} has a chain of {len(others) + 1} that does not lead to what this host trusts ({error})",
            "put the intermediate certificates behind the first one, in order; a CA of your own is never trusted here",
        )
    return fine(f"{path} has a chain of {len(others) + 1} that this host trusts")


def _alternative_names(of: Certificate) -> list[Name]:
    try:
        found = of.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    return [name for name in found if isinstance(name, Name)]


def _covers(names: Sequence[str], host: str) -> bool:
    """Whether one of the names is the host's, or a wildcard for it."""
    return host.lower() in map(str.lower, names) or f"*.{host.lower().partition('.')[2]}" in map(str.lower, names)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _trusted_roots() -> list[Certificate]:
    file = ssl.get_default_verify_paths().cafile
    return [] if file is None else load_pem_x509_certificates(Path(file).read_bytes())
