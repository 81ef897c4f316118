"""Fuzzing: `python -m tests.fuzz --inputs 1000000 --seed 1 [TARGET …]`. Exit code 1 when an input failed."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.campaign import Campaign, Failure, Report
from tests.fuzz.worker import Order, work


def main(arguments: list[str]) -> int:
    """The command."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it tidies up
    if options.replay:
        return _replay(options.replay, Path(options.found))
    return _show(map(work, _orders(options)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all unless given")
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="the same one makes the same inputs (default: 1)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each target at most (default: no limit)")
    parser.add_argument("--guided", action="store_true", help="by coverage; needs atheris, and is not repeatable")
    parser.add_argument("--found", default="fuzz-found", help="folder for inputs that fail (default: fuzz-found)")
    parser.add_argument("--replay", type=Path, nargs="*", help="only run these files, in folders named for a target")
    return parser.parse_args(arguments)


def _orders(options: argparse.Namespace) -> list[Order]:
    shares = _shares(guided=options.guided)
    unknown = set(options.targets) - shares.keys()
    if unknown:
        sys.exit(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(shares)}")
    wanted = options.targets or list(shares)
    total = sum(shares[name] for name in wanted)
    return [
        Order(name, count, options.seed, options.found, options.seconds, options.guided)
        for name, count in ((name, -(-options.inputs * shares[name] // total)) for name in wanted)
    ]


def _shares(*, guided: bool) -> dict[str, int]:
    """Each target's part of a campaign. Asked in a process of its own: guided ones have to see every import."""
    if not guided:
        return _read_shares()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_read_shares)


def _read_shares() -> dict[str, int]:
    from tests.fuzz.targets import TARGETS

    return {name: target.share for name, target in TARGETS.items()}


def _show(reports: Iterable[Report]) -> int:
    """A line for each target as soon as it is through; the exit code."""
    print(f"{'target':<12}{'inputs':>10}{'CPU s':>9}{'worst ms':>10}{'peak MiB':>10}{'failures':>10}")
    failures: list[Failure] = []
    for one in reports:
        figures = f"{one.seconds:>9.1f}{one.worst_s * 1000:>10.1f}{one.peak_bytes / 2**20:>10.1f}"
        print(f"{one.target:<12}{one.inputs:>10,}{figures}{len(one.failures):>10}", flush=True)
        failures += one.failures
    for failure in failures:
        print(f"{failure.kind} at {failure.place}: {failure.path}")
    return 1 if failures else 0


def _replay(paths: list[Path], folder: Path) -> int:
    from tests.fuzz.targets import TARGETS

    def replayed(path: Path) -> Report:
        campaign = Campaign(TARGETS[path.parent.name], folder)
        campaign.take(path.read_bytes())
        return campaign.report

    return _show(map(replayed, paths))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
