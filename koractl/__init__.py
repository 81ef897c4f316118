"""The command line: `kora`."""

import sys

# Where rich is installed structlog imports it, for tracebacks that no command prints: a quarter of what a start takes.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
