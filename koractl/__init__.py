"""The command line: `kora`."""

import signal
import sys

EXIT_INTERRUPTED = 130

# A reload that is asked for before the daemon can listen for it would end it.
if next((one for one in sys.argv[1:] if not one.startswith("-")), "") == "serve":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

# Where rich is installed structlog imports it, for tracebacks that no command prints: a quarter of what a start takes.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

    del sys.modules["rich"]
