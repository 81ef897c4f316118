"""`kora torture`: the whole daemon in simulated worlds full of bad luck; every failure can be had again by its seed."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from koractl.formats import write_json
from koractl.options import JsonOption

if TYPE_CHECKING:
    from kora_daemon.torture.campaign import Campaign
    from kora_daemon.torture.run import Verdict

_SEEDS = 100


class Store(StrEnum):
    """Where the simulated daemons keep their log."""

    MEMORY = "memory"
    SQLITE = "sqlite"


def torture(
    seed: Annotated[int, typer.Option(min=0, help="The first seed; alone it is run and told in full.")] = 1,
    seeds: Annotated[int | None, typer.Option(min=1, help=f"How many; {_SEEDS} unless --minutes says.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin no more seeds after that.")] = None,
    store: Annotated[Store, typer.Option(help="Where the daemons keep their log.")] = Store.MEMORY,
    processes: Annotated[int, typer.Option(min=0, help="Beside each other; 0 = one for each core.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Simulate daemons, devices, networks and disks, let everything go wrong that can, and check what comes of it.

    Needs no daemon and no network. Exits with 1 when a seed fails, and says how to see that one again.
    """
    # Here, since it brings along the server.
    from kora_daemon.torture.campaign import run_campaign  # noqa: PLC0415

    if seeds is None and minutes is None:
        seeds = _SEEDS
    campaign = run_campaign(
        seed,
        store.value,
        seeds=seeds,
        minutes=minutes,
        processes=1 if seeds == 1 else processes or os.cpu_count() or 1,
        told=_ignore if as_json else _tell_story if seeds == 1 else _tell,
    )
    if as_json:
        write_json(_report(campaign))
    else:
        typer.echo(_summary(campaign))
    if campaign.failed:
        raise typer.Exit(1)


def _ignore(_verdict: Verdict) -> None:
    pass


def _tell(verdict: Verdict) -> None:
    """Of a failure: what is wrong, and how to see it again."""
    if verdict.violations:
        typer.echo(f"seed {verdict.seed}: {verdict.violations[0]}\n    {verdict.replay}")


def _tell_story(verdict: Verdict) -> None:
    for line in verdict.trace:
        typer.echo(line)
    typer.echo(f"digest {verdict.digest}")


def _summary(campaign: Campaign) -> str:
    return (
        f"{campaign.seeds} seeds, {len(campaign.failed)} failed: {campaign.operations} operations, "
        f"{campaign.deliveries} deliveries, {sum(campaign.faults.values())} faults, {campaign.lives} daemons "
        f"in {campaign.seconds:.1f} s ({campaign.cpu_s:.1f} s of CPU), {campaign.seeds_per_minute:.0f} seeds a minute"
    )


def _report(campaign: Campaign) -> dict[str, object]:
    found: dict[str, object] = to_builtins(campaign)
    failed = [{"seed": one.seed, "violations": one.violations, "replay": one.replay} for one in campaign.failed]
    return {**found, "seeds_per_minute": campaign.seeds_per_minute, "failed": failed}
