"""`qtablate sweep`: run a grid, or show its plan."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from qtablate.cli.console import console, say
from qtablate.cli.live import SweepDisplay
from qtablate.cli.options import POSITIVE, Given, flags, number, with_settings
from qtablate.cli.plan import check_plan_options, probe_and_show_plan, show_detectable, what_it_detects
from qtablate.cli.report import show_report
from qtablate.config import SMOKE, SweepConfig, validate_config
from qtablate.errors import ConfigError
from qtablate.interrupts import Stopped

if TYPE_CHECKING:
    from qtablate.store import Store
    from qtablate.sweep.plan import SweepPlan


@with_settings()
def sweep(
    given: Given,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options on the command line win.")] = None,
    save_config: Annotated[Path | None, typer.Option(help="Write all settings to this YAML file, for --config.")] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The ablation that CI runs: tokens 0,8, accum 1,2; about a minute on two cores.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and the time it would take; run nothing.")] = False,
    probes: Annotated[
        bool, typer.Option("--probes/--no-probes", help="For --dry-run: time a few conditions, for about a minute.")
    ] = True,
    deviations: Annotated[
        Path | None,
        typer.Option(help="For --dry-run: results of an earlier sweep, whose seeds differ as this one's will.", metavar="DIR"),
    ] = None,
    seed_sd: Annotated[
        float | None, number(0, help="For --dry-run, instead: standard deviation between seeds of one condition, in points.")
    ] = None,
    margin: Annotated[
        float | None, number(POSITIVE, help="For --dry-run: difference to detect, in points. [default: 2]")
    ] = None,
) -> None:
    """Train and evaluate every cell of a grid, and report; finished cells are never run again."""
    from qtablate.sweep.confirm import recorded_confirmation, with_confirmation
    from qtablate.sweep.joined import joined
    from qtablate.sweep.plan import make_plan
    from qtablate.sweep.run import run_plan
    from qtablate.sweep.until_decided import with_decided

    settings = read_settings(given, config, smoke)
    check_plan_options(dry_run, probes, deviations, seed_sd, margin)
    plan = make_plan(settings)
    detectable = what_it_detects(plan, deviations, seed_sd, margin) if dry_run else ""
    if save_config:
        _save(settings, save_config)
    screen, progress = console(), console(stderr=True)
    if dry_run:
        plan = with_confirmation(with_decided(plan), recorded_confirmation(plan.store))
        expected = probe_and_show_plan(screen, plan, progress, probes)
        show_detectable(screen, detectable)
        raise typer.Exit(int(bool(expected.failed) and not expected.probes))
    with joined(plan.store, settings):
        display = SweepDisplay(progress, plan)
        try:
            plan = run_plan(plan, display)
            if not display.began and not plan.unfinished():
                progress.print(f"All {_total(plan)} cells of {plan.store.root} are finished; nothing to run.")
        except Stopped as stop:
            raise _stopped(progress, display.plan, stop) from None
        finally:
            display.close()
    try:
        show_report(screen, plan.store, run_custom=True)
    except Stopped as stop:
        raise _stopped(progress, plan, stop) from None
    _exit_if_unfinished(progress, plan)
    if smoke:
        _check_smoke(screen, plan.store)


def _total(plan: "SweepPlan") -> int:
    """Cells of the grid, and of its confirmation as far as that is known."""
    return len(plan.cells) + len(plan.confirmation.wanted)


def _left(plan: "SweepPlan") -> int:
    """Those of them that are not finished."""
    return len(plan.to_run()) + len(plan.confirmation_to_run())


def _exit_if_unfinished(progress: Console, plan: "SweepPlan") -> None:
    """Say which cells are not finished, and exit with code 1 where one that this run was for is among them."""
    from qtablate.sweep.selection import has_failed

    run, named, total = plan.config.run, plan.named_only(), _total(plan)
    unfinished = plan.unfinished() + plan.confirmation_to_run()
    left = [cell for cell in unfinished if cell.key in named or cell not in plan.cells]
    failed = sum(has_failed(cell, plan.store) for cell in left)
    not_started = len(left) - failed
    if run.max_failures and failed >= run.max_failures and not_started:
        text = f"{failed} of {total} cells failed and {not_started} were not started (--max-failures {run.max_failures}); "
        say(progress, text + "the same command tries them all.", "red")
        raise typer.Exit(1)
    if failed:
        condition = "without --no-retry-failed " if run.retry_failed is False else ""
        say(progress, f"{failed} of {total} cells failed; {condition}the same command tries them again.", "red")
        raise typer.Exit(1)
    if unfinished:
        option = "--only" if run.only else "--retry-failed"
        say(progress, f"{len(unfinished)} of {total} cells are not finished; without {option} the same command runs them.")


def read_settings(given: Given, file: Path | None, smoke: bool = False) -> SweepConfig:
    """The configuration of a YAML file, with what stands on the command line in its place. Raises ConfigError."""
    from qtablate.data.userfiles import read_yaml

    values: Mapping[str, Any] = {}
    if smoke:
        _check_smoke_options(given, file)
        values = SMOKE
    elif file:
        values = read_yaml(file, "--config: ", "a YAML file of settings") or {}
        if not isinstance(values, Mapping):
            raise ConfigError(f"--config: {file} should hold settings by section: {', '.join(SweepConfig.model_fields)}")
    merged = {
        section: dict(inner) if isinstance(inner, Mapping) else inner for section, inner in values.items() if inner is not None
    }
    _check_listed_conditions(given, merged.get("grid"), file)
    for (section, name), value in given.items():
        inner = merged.setdefault(section, {})
        if isinstance(inner, dict):  # else validation says what is wrong with the file
            inner[name] = value
    return validate_config(merged, flags(given), str(file or ""))


def _check_listed_conditions(given: Given, grid: Any, file: Path | None) -> None:
    listed = grid.get("conditions") if isinstance(grid, dict) else None
    for condition in listed if isinstance(listed, list) else ():
        for (section, name), flag in flags(given).items():
            if section == "grid" and isinstance(condition, Mapping) and {name, name.replace("_", "-")} & set(condition):
                raise ConfigError(
                    f"{flag}: {file} lists conditions one by one, which options cannot change; leave it out, or edit the file"
                )


def _check_smoke_options(given: Given, file: Path | None) -> None:
    fixed = [flags(given)["grid", name] for name in SMOKE["grid"] if ("grid", name) in given]
    if fixed:
        raise ConfigError(f"--smoke has a grid of its own: leave out {', '.join(fixed)}, or leave out --smoke")
    if ("train", "budget") in given:
        raise ConfigError("--smoke has a budget of its own: leave out --budget, or leave out --smoke")
    if file:
        raise ConfigError("--smoke has settings of its own: leave out --config, or leave out --smoke")


def _save(settings: SweepConfig, path: Path) -> None:
    from qtablate.files import write_text

    text = yaml.safe_dump(settings.to_dict(), sort_keys=False, default_flow_style=None, width=120)
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(2, "its folder does not exist")
        write_text(path, f"# qtablate sweep --config {path.name}\n{text}")
    except OSError as error:
        raise ConfigError(
            f"--save-config: {path} cannot be written ({error.strerror}): name a file in a folder of yours"
        ) from None


def _say_what_slurm_has(screen: Console, store: "Store") -> None:
    from qtablate.execute.slurm_jobs import JobFile
    from qtablate.execute.slurm_queue import cancel_command

    submitted = [one.job for one in JobFile(store.root).read().values()]
    if submitted:
        say(screen, f"Slurm goes on with {len(submitted)} jobs; end them with: {cancel_command(submitted)}")


def _check_smoke(screen: Console, store: "Store") -> None:
    """Exit with code 1 unless every cell has finished and scores above its blind control: two gates of `qtablate check`."""
    from qtablate.report.gates.judge import judge_gates
    from qtablate.report.results import load

    failed = [gate for gate in judge_gates(load(store.root), {"max-failed": 0, "above-blind": True}) if not gate.passed]
    for gate in failed:
        say(screen, f"Smoke ablation failed: {gate.asked}: {gate.found}", style="red")
    if failed:
        raise typer.Exit(1)
    screen.print("Smoke ablation passed: every cell finished and scores above its blind control by two standard errors.")


def _stopped(screen: Console, plan: "SweepPlan", stop: Stopped) -> typer.Exit:
    """Say what a stopped sweep keeps and how it goes on; what to raise is returned."""
    total = _total(plan)
    screen.print(f"\nStopped: {total - _left(plan)} of {total} cells are finished and kept in {plan.store.root}.")
    say(screen, "Go on with the same command: " + " ".join(["qtablate", *sys.argv[1:]]))
    if plan.config.run.executor == "slurm":
        _say_what_slurm_has(screen, plan.store)
    return typer.Exit(stop.code)
