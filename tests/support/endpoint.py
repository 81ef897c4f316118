"""An HTTP service beside the daemon: a hook's, or an issuer's key set."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CERTIFICATE = Path(__file__).parents[1] / "unit" / "data" / "tls" / "cert.pem"
"""A throw-away certificate for 127.0.0.1; its key lies beside it."""


class Endpoint:
    """Answers what it is told to, and remembers what it was asked. `judge` makes an answer out of a request's body."""

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.status = 200
        self.body = b"{}"
        self.judge: Callable[[bytes], tuple[int, bytes]] | None = None
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                endpoint.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
                if endpoint.judge is not None:
                    endpoint.status, endpoint.body = endpoint.judge(endpoint.asked[-1][3])
                self.send_response(endpoint.status)
                if endpoint.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(endpoint.body)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Answer nothing any more."""
        self.server.shutdown()
        self.server.server_close()
