"""The version of this package, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("kora-daemon")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0+unknown"
