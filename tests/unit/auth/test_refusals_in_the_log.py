"""What the log says of a refused token: by its digest it can be told from others, and by nothing else."""

from __future__ import annotations

import hashlib

import structlog

from kora_daemon.auth.token import StaticTokenProvider
from kora_daemon.log import mask_secrets


async def test_a_refused_token_is_known_by_its_digest() -> None:
    with structlog.testing.capture_logs() as logged:
        assert await StaticTokenProvider([]).authenticate("s3cret") is None
    (line,) = [dict(mask_secrets(None, "", one)) for one in logged]
    assert line["event"] == "auth.token_refused"
    assert line["digest"] == hashlib.sha256(b"s3cret").hexdigest()[:12]
    assert "s3cret" not in repr(line)
