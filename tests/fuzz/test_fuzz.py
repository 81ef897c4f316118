"""Fuzzing in short: some thousand inputs of one seed, all that ever failed, and what a campaign makes of failures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.campaign import Campaign, Report, peak_bytes, seeded
from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]
FOUND = sorted(path for path in (Path(__file__).parent / "found").glob("*/*") if path.suffix != ".txt")


def fuzz(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: limits and signals are the process's. It leaves no temporary files."""
    command = [sys.executable, "-m", "tests.fuzz", "--found", str(folder / "found"), *map(str, arguments)]
    temporary = folder / "temporary"
    temporary.mkdir()
    environ = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=environ)
    assert not list(temporary.iterdir())
    return done


def test_a_short_campaign_finds_nothing(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--inputs", "4000", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_failed_once_does_not_fail_again(tmp_path: Path) -> None:
    assert FOUND
    done = fuzz(tmp_path, "--replay", *FOUND)
    assert done.returncode == 0, done.stdout + done.stderr


class Broken(Exception):
    """What the target below does."""


def fails_on(word: bytes, do: Callable[[], object]) -> Target:
    """A target that can't take a word; inputs are seeds with a letter more."""

    def run(data: bytes) -> None:
        if word in data:
            do()

    def mutate(data: bytes, random: Random) -> bytes:
        return data + random.choice([b"a", b"b"])

    return Target("toy", run, lambda: [b"seed"], mutate)


def raises() -> None:
    raise Broken("here")


def never_ends() -> None:
    while True:
        pass


def takes_memory() -> bytes:
    """More than this process ever had."""
    return b"\1" * (peak_bytes() + (120 << 20))


def campaign(folder: Path, target: Target, *data: bytes, deadline_s: float = 10.0) -> Report:
    made = Campaign(target, folder, deadline_s=deadline_s)
    for one in data:
        made.take(one)
    return made.report


def test_a_failure_is_kept_once_and_short(tmp_path: Path) -> None:
    report = campaign(tmp_path, fails_on(b"x", raises), b"fine", b"long before x long behind", b"x again")
    (failure,) = report.failures
    assert report.inputs == 3
    assert failure.kind == "Broken"
    assert Path(failure.path).read_bytes() == b"x"
    assert "Broken: here" in Path(failure.path).with_suffix(".txt").read_text()


def test_what_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    (failure,) = campaign(tmp_path, fails_on(b"x", never_ends), b"x", b"fine", deadline_s=0.05).failures
    assert failure.kind == "TooSlow"


def test_what_takes_too_much_memory_is_a_failure(tmp_path: Path) -> None:
    (failure,) = campaign(tmp_path, fails_on(b"x", takes_memory), b"fine", b"x").failures
    assert failure.kind == "TooMuchMemory"


def test_a_seed_makes_the_same_inputs_again(tmp_path: Path) -> None:
    heard: list[bytes] = []
    target = fails_on(b"no such word", raises)
    target = Target(target.name, heard.append, target.seeds, target.mutate)
    for seed in (1, 1, 2):
        seeded(Campaign(target, tmp_path), target, 50, seed)
    assert heard[:50] == heard[50:100]
    assert heard[:50] != heard[100:]


def test_an_unknown_target_is_named(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "nonsense")
    assert done.returncode == 1
    assert "there is no target nonsense; there are frames, " in done.stderr
