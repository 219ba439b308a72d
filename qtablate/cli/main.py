"""The commands. The only file that prints.

qtablate sweep --tokens 0,32,64
qtablate report
qtablate audit --accum 1,2,4,8
qtablate convert STAGE.pth ... --llm DIR --out DIR
qtablate assemble --vision DIR --llm DIR --out DIR
qtablate bench export DIR
qtablate bench doctor DIR
qtablate data doctor FILE
"""

import math
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import track

from qtablate import interrupts
from qtablate.cli.progress import Board, clock
from qtablate.controls import CONTROLS
from qtablate.errors import QtablateError
from qtablate.interrupts import Stopped
from qtablate.prompts.mvbench import SCORERS

if TYPE_CHECKING:
    from qtablate.execute.events import Event
    from qtablate.grid import Budget, Hold
    from qtablate.store import Store
    from qtablate.sweep.forecast import Forecast
    from qtablate.sweep.sweep import Events, Sweep
    from qtablate.validate.check import ValidationReport

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 140},
    help="Ablate a video language model's query tokens and gradient accumulation, and say how sure the answer is.",
)
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: write the procedural one as files, look at yours.")
data_app = typer.Typer(no_args_is_help=True, help="Training data: look at yours.")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")

RESULTS = Path("results")
ALL_CONTROLS = ",".join(CONTROLS)
TOKENS, ACCUM, SEEDS = "0,32,64", "1,4", "1,2,3"
POSITIVE = math.ulp(0.0)  # the least number above zero
_STATUS_EVERY = 15.0  # seconds between status lines where the output is not a terminal


def console(stderr: bool = False) -> Console:
    """For results on stdout, or for progress and failures on stderr, so that `qtablate sweep > tables.txt` writes tables alone.
    Where the output is no terminal, wide enough for every column."""
    out = Console(highlight=False, markup=False, stderr=stderr)
    return out if out.is_terminal else Console(highlight=False, markup=False, stderr=stderr, width=160)


def _number(least: float, most: float = math.inf, help: str = "") -> Any:
    """A float option from `least` to `most`, the least itself left out where it is POSITIVE. Raises QtablateError that names
    the option, its value and the bounds, for NaN and infinity too, which pass the bounds of some versions of Typer."""
    if least == POSITIVE:
        span, wanted = ">0", "positive number"
    elif math.isfinite(most):
        span, wanted = f"{least:g} to {most:g}", f"number from {least:g} to {most:g}"
    else:
        span, wanted = f">={least:g}", f"finite number of {least:g} or more"

    def checked(param: typer.CallbackParam, text: str | None) -> float | None:
        with suppress(ValueError):
            if text is None or (math.isfinite(value := float(text)) and least <= value <= most):
                return None if text is None else value
        raise QtablateError(f"{max(param.opts, key=len)}: {text} is no {wanted}")

    return typer.Option(help=help, parser=str, callback=checked, metavar=f"<float {span}>")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"qtablate {metadata.version('qtablate')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The options of `qtablate` itself."""


@app.command(short_help="Train and evaluate every cell of a grid, and report.")
def sweep(
    tokens: Annotated[str, typer.Option(help="extra_num_query_tokens to compare: a comma list, 0 included.")] = TOKENS,
    accum: Annotated[str, typer.Option(help="accumulate_grad_batches to compare.")] = ACCUM,
    batch_size: Annotated[str, typer.Option(help="Micro-batch sizes; with --hold effective-batch, effective ones.")] = "8",
    seeds: Annotated[str, typer.Option(help="Seeds; every condition runs with each.")] = SEEDS,
    mixing: Annotated[
        str, typer.Option(help="mixed: every medium in each micro-batch; random: one each; interleaved: one each, evenly.")
    ] = "mixed",
    align_windows: Annotated[
        bool, typer.Option("--align-windows", help="Order random's micro-batches evenly: the same as --mixing interleaved.")
    ] = False,
    extra_init: Annotated[str, typer.Option(help="Initial values of extra tokens: normal, zeros, copy.")] = "normal",
    extra_lr: Annotated[str, typer.Option(help="Extra tokens' learning rate, as multiples of the others'.")] = "1",
    lr_scaling: Annotated[str, typer.Option(help="How the rate grows with the effective batch: none, sqrt, linear.")] = "none",
    lr_batch: Annotated[
        int | None, typer.Option(min=1, help="Effective batch that --lr is meant for. Default: the grid's smallest.")
    ] = None,
    loss_norm: Annotated[str, typer.Option(help="tokens; incorrect, to measure: micro_mean, none.")] = "tokens",
    clip_per: Annotated[str, typer.Option(help="window; incorrect, to measure: micro_batch.")] = "window",
    lr_step_per: Annotated[str, typer.Option(help="window; incorrect, to measure: micro_batch.")] = "window",
    hold: Annotated[str, typer.Option(help="What accumulation keeps: micro-batch or effective-batch.")] = "micro-batch",
    samples: Annotated[int | None, typer.Option(min=1, help="Budget: clips and images that each cell trains on.")] = None,
    budget: Annotated[
        tuple[str, int] | None,
        typer.Option(metavar="samples|steps|tokens N", help="What each cell has N of: --samples, or this. tokens: supervised."),
    ] = None,
    image_share: Annotated[float | None, _number(0, 1, help="Share of images among the samples.")] = None,
    lr: Annotated[float | None, _number(POSITIVE, help="Peak learning rate. Default: the model's own.")] = None,
    warm_up: Annotated[float, _number(0, 1, help="Share of the optimizer steps.")] = 0.2,
    max_grad_norm: Annotated[float | None, _number(POSITIVE, help="Clip each window's gradient. Default: no clipping.")] = None,
    train_lm: Annotated[bool, typer.Option("--train-lm/--freeze-lm", help="Train the language model too.")] = False,
    lora: Annotated[int, typer.Option(min=0, help="Rank of a LoRA of the language model (the original: 16). 0: none.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 or fp16 for frozen parts and arithmetic.")] = "fp32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations instead of keeping them.")
    ] = False,
    model: Annotated[str, typer.Option(help="nano (in the package) or a model directory.")] = "nano",
    bench: Annotated[
        str, typer.Option(help="world (procedural), world:easy, world:hard, mvbench:DIR or custom:FILE.py.")
    ] = "world",
    items: Annotated[int | None, typer.Option(min=1, help="Items a task at most. Default: all (world: 100).")] = None,
    items_seed: Annotated[int, typer.Option(min=0, help="Which --items of a folder are drawn, stratified by answer.")] = 0,
    train: Annotated[
        str, typer.Option(help="world, world:LEVEL, a json file of conversations, a comma list, or a YAML file of these.")
    ] = "world",
    train_weights: Annotated[str, typer.Option(help="How often each source in --train is drawn from: a comma list.")] = "",
    max_bad: Annotated[
        float, _number(0, 1, help="Share of the training samples, and of the items, that may be bad and left out.")
    ] = 0.1,
    media_root: Annotated[str, typer.Option(help="Folder that the clips in --train are named from.")] = "",
    controls: Annotated[str, typer.Option(help=f"Controls: {ALL_CONTROLS}, or blind alone.")] = ALL_CONTROLS,
    scorers: Annotated[
        str, typer.Option(help=f"How answers are read, the first decides the score: {', '.join(SCORERS)}.")
    ] = "likelihood",
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Look at what the visual tokens hold, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Results folder. Default: results/MODEL-BENCH.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at once. Default: as GPUs, or cores, allow.")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="Processes that train one cell together, each on a GPU or a core.")] = 1,
    save_every: Annotated[
        float, _number(0, help="Minutes between two checkpoints of a cell in training; 0: only when training has ended.")
    ] = 10,
    cell_timeout: Annotated[
        float | None, _number(0.01, help="Minutes after which a cell is ended and counts as failed. Default: none.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The ablation that CI runs: tokens 0,8, accum 1,2; a few minutes on two cores.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and the time it would take; run nothing.")] = False,
) -> None:
    """Train and evaluate every cell of a grid; finished cells are never run again."""
    from qtablate.axes import BY_OPTION
    from qtablate.data.sources import Sources
    from qtablate.execute.local import default_workers
    from qtablate.grid import BUDGETS, HOLDS, PRECISIONS, Grid, factors, labels, numbers, words
    from qtablate.model.cache import default_cache
    from qtablate.store import Store
    from qtablate.sweep import sweep as sweeps

    if smoke:
        given = {"tokens": (tokens, TOKENS), "accum": (accum, ACCUM), "seeds": (seeds, SEEDS)}
        changed = [name for name, (value, default) in given.items() if value != default]
        if changed:
            raise QtablateError(f"--smoke has a grid of its own: leave out --{', --'.join(changed)}, or leave out --smoke")
        tokens, accum, seeds = sweeps.SMOKE.tokens, sweeps.SMOKE.accum, sweeps.SMOKE.seeds
        samples, items = samples or sweeps.SMOKE.samples, items or sweeps.SMOKE.items
    if "," in hold:
        raise QtablateError(f"--hold takes one value, not '{hold}'; known: {', '.join(HOLDS)}")
    if align_windows:
        mixing = ",".join("interleaved" if level.strip() == "random" else level for level in mixing.split(","))
        if "interleaved" not in mixing:
            raise QtablateError("--align-windows orders the micro-batches of --mixing random, which is not asked for")

    def named(option: str, text: str) -> tuple[str, ...]:
        return words(f"--{option}", text, BY_OPTION[option].known)

    grid = Grid(
        numbers("--tokens", tokens, 0),
        numbers("--accum", accum, 1),
        numbers("--batch-size", batch_size, 1),
        numbers("--seeds", seeds, 0),
        named("mixing", mixing),
        named("extra-init", extra_init),
        cast("Hold", words("--hold", hold, HOLDS)[0]),
        factors("--extra-lr", extra_lr),
        named("lr-scaling", lr_scaling),
        named("loss-norm", loss_norm),
        named("clip-per", clip_per),
        named("lr-step-per", lr_step_per),
        lr_batch,
    )
    if budget and "," in budget[0]:
        raise QtablateError(f"--budget holds one thing, not '{budget[0]}'; known: {', '.join(BUDGETS)}")
    held = (words("--budget", budget[0], BUDGETS)[0], numbers("--budget", str(budget[1]), 1)[0]) if budget else None
    if lr_batch and grid.lr_scaling == ("none",):
        raise QtablateError("--lr-batch says what --lr is scaled from, and nothing is: give --lr-scaling, or leave it out")
    if smoke and budget:
        raise QtablateError("--smoke has a budget of its own: leave out --budget, or leave out --smoke")
    sources = Sources(model, bench, train, media_root, train_weights, items, items_seed)
    asked_under = words("--controls", controls, tuple(CONTROLS))
    if "blind" not in asked_under:
        raise QtablateError("--controls: blind must be among them, since no score means anything without it")
    recipe = sweeps.recipe_for(
        sources,
        samples,
        image_share,
        lr,
        warm_up,
        max_grad_norm,
        train_lm,
        asked_under,
        diagnose,
        lora,
        words("--precision", precision, PRECISIONS)[0],
        checkpointing,
        words("--scorers", scorers, SCORERS),
        cast("tuple[Budget, int] | None", held),
    )
    kind, _, where = bench.partition(":")
    name = "smoke" if smoke else "-".join(part for part in (Path(model).name, kind, Path(where).name) if part)
    store = Store(out or RESULTS / name)
    planned = sweeps.plan(
        store,
        sources,
        grid,
        recipe,
        default_cache() / "features",
        jobs or default_workers(ranks),
        max_bad,
        60 * sweeps.save_within(save_every, cell_timeout) or None,
        ranks,
    )

    screen, progress = console(), console(stderr=True)
    if dry_run:
        expected = _show_plan(screen, planned, progress)
        raise typer.Exit(int(bool(expected.failed) and not expected.probes))
    with store.locked():
        planned = _run(progress, planned, 60 * cell_timeout if cell_timeout else None)
    failed = [cell for cell in planned.cells if not store.finished(cell.key)]
    try:
        _show_report(screen, store)
    except Stopped as stop:
        raise _stopped(progress, planned, stop) from None
    if failed:
        progress.print(f"{len(failed)} of {len(planned.cells)} cells failed; the same command tries them again.", style="red")
        raise typer.Exit(1)
    if smoke:
        blind = sweeps.not_above_blind(planned)
        for cell, gain, stderr in blind:
            name = labels(planned.cells)[cell.key]
            screen.print(f"{name}: not above its blind control (gain {100 * gain:.1f} ± {100 * stderr:.1f})", style="red")
        if blind:
            raise typer.Exit(1)
        screen.print("Smoke ablation passed: every cell finished and scores above its blind control by two standard errors.")


@app.command(short_help="Show the tables of a sweep, or compare two sweeps.")
def report(
    results: Annotated[Path | None, typer.Argument(help="A results folder. Default: the newest under results/.")] = None,
    other: Annotated[Path | None, typer.Argument(help="Another one to compare with the first, condition by condition.")] = None,
    baseline: Annotated[str, typer.Option(help="What is compared with, such as tokens=0,accum=1 (the default).")] = "",
    margin: Annotated[float, _number(0, help="Points below which a difference does not matter to you.")] = 2.0,
    at: Annotated[
        str, typer.Option(help="Language model to tell costs for: 7b, 13b, mistral-7b, phi-3-mini, a config.json.")
    ] = "7b",
) -> None:
    """Show the tables of a sweep, finished or not, and write them as CSV and Markdown; or two sweeps against each other."""
    from qtablate.grid import levels
    from qtablate.store import Store, newest

    if results and other:
        from qtablate.report.compare import compare
        from qtablate.report.results import COST_MODEL
        from qtablate.report.tables import comparison_table

        if baseline or at != COST_MODEL:
            raise QtablateError("--baseline and --at say what is compared within one folder: leave them out with two folders")
        screen = console()
        screen.print(comparison_table(compare(Store(results), Store(other), margin / 100)).rich(screen.width))
        return
    store = Store(results) if results else newest(RESULTS)
    _show_report(console(), store, baseline=levels("--baseline", baseline), margin=margin / 100, cost_model=at)


@app.command(short_help="Make a model directory of VideoChat2's own files.")
def convert(
    files: Annotated[list[Path], typer.Argument(help="The original's .pth files in the order of their stages.")],
    llm: Annotated[Path, typer.Option(help="Directory of the language model: Mistral, Vicuna or Phi-3.")],
    out: Annotated[Path, typer.Option(help="Model directory to write; must be new.")],
    bert: Annotated[
        Path | None, typer.Option(help="Folder with bert-base-uncased's vocab.txt, for the Q-Former's text.")
    ] = None,
    merge_lora: Annotated[
        bool, typer.Option("--merge-lora/--keep-lora", help="Add LoRA to the weights, or keep it apart.")
    ] = False,
    lora_alpha: Annotated[float, _number(POSITIVE, help="Not in the files; the original's is 32.")] = 32.0,
    qformer_text: Annotated[
        bool | None, typer.Option("--qformer-text/--no-qformer-text", help="Default: as the files have weights for it.")
    ] = None,
    fresh: Annotated[str, typer.Option(help="projection: no file has it yet, cells start it anew (before stage 2).")] = "",
    dtype: Annotated[str, typer.Option(help="Of the language model: auto (as it is), float16 (as the original), ...")] = "auto",
    image_size: Annotated[int, typer.Option(min=16, help="Pixels a side that clips are shown at.")] = 224,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of a clip (the original: 8 in training, 16 in MVBench).")] = 8,
    vision_heads: Annotated[int | None, typer.Option(min=1, help="Not in the files. Default: heads of 64.")] = None,
    qformer_heads: Annotated[int | None, typer.Option(min=1, help="Not in the files. Default: heads of 64.")] = None,
    original_quirks: Annotated[
        bool, typer.Option("--original-quirks", help="Train as the original: bos as a number, left padding, drop path 0.2.")
    ] = False,
) -> None:
    """Make a model directory of VideoChat2's own files and its language model's directory."""
    from qtablate.grid import words
    from qtablate.model import convert as conversion

    settings = conversion.ConversionSettings(
        vision_heads,
        qformer_heads,
        image_size,
        num_frames,
        lora_alpha,
        merge_lora,
        qformer_text,
        words("--dtype", dtype, conversion.DTYPES)[0],
        tuple(words("--fresh", fresh, ("projection",))) if fresh else (),
        original_quirks,
    )
    _written(out, conversion.convert(files, llm, out, bert, settings))


@app.command(short_help="Build a model around a vision tower and a language model.")
def assemble(
    vision: Annotated[Path, typer.Option(help="Local transformers directory: ViT, CLIP, SigLIP, VideoMAE.")],
    llm: Annotated[Path, typer.Option(help="Local directory of a causal language model, or a GGUF file.")],
    out: Annotated[Path, typer.Option(help="Model directory to write; must be new.")],
    num_query_tokens: Annotated[int, typer.Option(min=1, help="Base queries.")] = 32,
    qformer_layers: Annotated[int, typer.Option(min=1)] = 6,
    qformer_width: Annotated[int, typer.Option(min=64, help="A multiple of 64.")] = 768,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of a clip; a VideoMAE's own number counts.")] = 8,
    conversation: Annotated[
        str, typer.Option(help="Turn markers. Default: chatml where the tokenizer knows it, or plain.")
    ] = "",
    lr: Annotated[float, _number(POSITIVE, help="Peak rate that sweeps of this model take.")] = 1e-4,
) -> None:
    """Build a model around a vision tower and a language model, with a new Q-Former between them."""
    from qtablate.model import assemble as assembly

    connector = assembly.ConnectorConfig(num_query_tokens, qformer_layers, qformer_width, num_frames, conversation, lr)
    _written(out, assembly.assemble(vision, llm, out, connector))


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything; it is made again when needed.")] = False,
    limit: Annotated[float | None, _number(0, help="Remove the longest unused down to so many GB.")] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Remove what lacks a clip that took too long: it is tried again.")
    ] = False,
) -> None:
    """Show the cached visual features, or remove some. QTABLATE_CACHE names the folder, QTABLATE_CACHE_GB its limit."""
    from qtablate.model.cache import chunks, default_cache, limit_bytes, prune, remove, retryable_chunks

    screen, folder = console(), default_cache() / "features"
    asked = chunks(folder) if clear else retryable_chunks(folder) if retry else []
    gone = [one for one in asked if remove(folder, one.stem)]
    if limit is not None and not clear:
        gone = prune(folder, int(limit * 1e9))
    if gone:
        _say(screen, f"Removed {len(gone)} files, {sum(one.size for one in gone) / 1e9:.2f} GB.")
    there = chunks(folder)
    size = sum(one.size for one in there) / 1e9
    last = f", the longest unused since {time.strftime('%Y-%m-%d', time.localtime(there[0].used))}" if there else ""
    _say(screen, f"{folder}: {len(there)} files, {size:.2f} of at most {limit_bytes() / 1e9:g} GB{last}.")


@app.command(short_help="Measure whether a window's gradient is that of one batch.")
def audit(
    model: Annotated[str, typer.Option(help="nano (in the package) or a model directory.")] = "nano",
    train: Annotated[
        str, typer.Option(help="world, world:LEVEL, a json file of conversations, a comma list, or a YAML file of these.")
    ] = "world",
    train_weights: Annotated[str, typer.Option(help="How often each source in --train is drawn from: a comma list.")] = "",
    media_root: Annotated[str, typer.Option(help="Folder that the clips in --train are named from.")] = "",
    accum: Annotated[str, typer.Option(help="accumulate_grad_batches to measure.")] = "1,2,4,8",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a micro-batch.")] = 8,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="extra_num_query_tokens. Default: as the model's files have, or 32.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 or fp16 for frozen parts and arithmetic.")] = "fp32",
    max_grad_norm: Annotated[float | None, _number(POSITIVE, help="Clip each window's gradient. Default: no clipping.")] = None,
    train_lm: Annotated[bool, typer.Option("--train-lm/--freeze-lm", help="Train the language model too.")] = False,
    lora: Annotated[int, typer.Option(min=0, help="Rank of a LoRA of the language model. 0: none.")] = 0,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations instead of keeping them.")
    ] = False,
    mixing: Annotated[str, typer.Option(help="mixed: every medium in a micro-batch; random or interleaved: one.")] = "mixed",
    samples: Annotated[int | None, typer.Option(min=1, help="Of a sweep's cell, for its order and its schedule.")] = None,
    image_share: Annotated[float | None, _number(0, 1, help="Share of images among the samples.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of initial values and order.")] = 1,
    against: Annotated[str, typer.Option(help="trainer: pass the same windows through transformers' Trainer too.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write every figure as a row of this file.")] = None,
) -> None:
    """Measure whether a window's gradient is that of one batch, on your model and data. Exit code 1 if it is not."""
    from qtablate.audit.measure import audit as measure
    from qtablate.audit.summary import headline, remarks, summary
    from qtablate.audit.tables import as_csv, tables
    from qtablate.axes import BY_OPTION
    from qtablate.data.sources import Sources
    from qtablate.files import write_text
    from qtablate.grid import PRECISIONS, Grid, numbers, words
    from qtablate.model.directory import read_config
    from qtablate.sweep import sweep as sweeps

    _check_writable(csv)
    compared = words("--against", against, ("trainer",)) if against else ()
    if "," in mixing:
        raise QtablateError(f"--mixing takes one value here, not '{mixing}'; known: {', '.join(BY_OPTION['mixing'].known)}")
    if tokens is None:
        tokens = read_config(model)["extra_num_query_tokens"] or 32
    grid = Grid(
        (tokens,),
        numbers("--accum", accum, 1),
        (batch_size,),
        (seed,),
        words("--mixing", mixing, BY_OPTION["mixing"].known)[:1],
        ("normal",),
        "micro-batch",
    )
    sources = Sources(model, train=train, media_root=media_root, weights=train_weights)
    recipe = sweeps.recipe_for(
        sources,
        samples,
        image_share,
        None,
        0.2,
        max_grad_norm,
        train_lm,
        (),
        False,
        lora,
        words("--precision", precision, PRECISIONS)[0],
        checkpointing,
        ("likelihood",),
    )
    screen, progress = console(), console(stderr=True)
    with progress.status("Measuring gradients") if progress.is_terminal else nullcontext():
        found = measure(sources, grid, recipe, bool(compared))
    _say(screen, headline(found))
    screen.print()
    for table in tables(found):
        screen.print(table.rich(screen.width))
        screen.print()
    for line in (*remarks(found), summary(found)):
        _say(screen, line)
    if csv:
        write_text(csv, as_csv(found))
        _say(screen, f"Written: {csv}")
    if not found.passed:
        raise typer.Exit(1)


@bench_app.command("export", short_help="Write the procedural benchmark as files.")
def bench_export(
    directory: Annotated[Path, typer.Argument(help="Folder to write json/ and video/ into; must be empty or new.")],
    items: Annotated[int, typer.Option(min=1, help="Items a task.")] = 20,
) -> None:
    """Write the procedural benchmark in MVBench's format, with encoded mp4 files."""
    from qtablate.data.export import export

    clips, questions = export(directory, items)
    console().print(f"{questions} items and {clips} clips in {directory}: qtablate sweep --bench mvbench:{directory}")


@bench_app.command("preview", short_help="Draw contact sheets of the procedural benchmark.")
def bench_preview(
    directory: Annotated[Path, typer.Argument(help="Folder to write TASK.png into.")],
    items: Annotated[int, typer.Option(min=1, help="Items a task.")] = 6,
    level: Annotated[str, typer.Option(help="How hard: easy, normal or hard.")] = "normal",
) -> None:
    """Draw contact sheets of the procedural benchmark: each task's clips, questions and answers."""
    from qtablate.grid import words
    from qtablate.world.levels import LEVELS
    from qtablate.world.preview import preview

    written = preview(directory, items, words("--level", level, tuple(LEVELS))[0])
    console().print(f"{len(written)} contact sheets in {directory}")


@bench_app.command("doctor", short_help="Look at questions and clips for what would mislead.")
def bench_doctor(
    directory: Annotated[Path, typer.Argument(help="Folder in MVBench's format.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip that are wanted.")] = 16,
    no_decode: Annotated[bool, typer.Option("--no-decode", help="Read headers alone: seconds instead of minutes.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every finding as a row of this file.")] = None,
) -> None:
    """Look at questions and clips: what would be left out, and what would mislead. Exit code 1 if there are errors."""
    from qtablate.validate.check import check_benchmark

    _check_writable(csv)
    screen = console()
    _show_checkup(screen, check_benchmark(str(directory), frames, not no_decode, _follower(console(stderr=True))), csv)


@data_app.command("doctor", short_help="Look at conversations and clips for what would mislead.")
def data_doctor(
    file: Annotated[Path, typer.Argument(help="Json file in VideoChat2-IT's form.")],
    media_root: Annotated[str, typer.Option(help="Folder that its clips are named from. Default: the file's own.")] = "",
    bench: Annotated[str, typer.Option(help="Folder in MVBench's format: which of its clips are trained on?")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip that are wanted.")] = 8,
    no_decode: Annotated[bool, typer.Option("--no-decode", help="Read headers alone: seconds instead of minutes.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every finding as a row of this file.")] = None,
) -> None:
    """Look at conversations and clips: what would be left out, and what would mislead. Exit code 1 if there are errors."""
    from qtablate.validate.check import check_training

    _check_writable(csv)
    screen = console()
    bench = bench.removeprefix("mvbench:")
    _show_checkup(
        screen, check_training(str(file), media_root, frames, not no_decode, _follower(console(stderr=True)), bench), csv
    )


def _show_checkup(screen: Console, checkup: "ValidationReport", csv: Path | None) -> None:
    from qtablate.files import write_text
    from qtablate.validate.tables import as_csv, sheets, summary

    for sheet in sheets(checkup):
        screen.print(sheet.rich(screen.width))
        screen.print()
    _say(screen, summary(checkup))
    if csv:
        write_text(csv, as_csv(checkup))
        _say(screen, f"Written: {csv}")
    if checkup.count("error"):
        raise typer.Exit(1)


def _check_writable(csv: Path | None) -> None:
    """Before anything takes long."""
    if csv and (csv.is_dir() or not csv.parent.is_dir() or not os.access(csv.parent, os.W_OK)):
        raise QtablateError(f"--csv: {csv} cannot be written: expected the name of a file in a folder that is there")


def _follower(screen: Console) -> Callable[[Sequence[str]], Iterable[str]]:
    """Goes through clips and shows how far it is: a bar in a terminal, a line now and then elsewhere."""

    def follow(clips: Sequence[str]) -> Iterable[str]:
        if screen.is_terminal:
            yield from track(clips, "Decoding clips", console=screen, transient=True)
            return
        said = time.monotonic()
        for number, clip in enumerate(clips):
            if time.monotonic() - said > _STATUS_EVERY:
                said = time.monotonic()
                screen.print(f"  decoding clip {number} of {len(clips)}", soft_wrap=True)
            yield clip

    return follow


def _written(out: Path, lines: list[str]) -> None:
    screen = console()
    for line in lines:
        _say(screen, line)
    _say(screen, f"Written: {out}. Use it: qtablate sweep --model {out} --dry-run")


def _run(screen: Console, planned: "Sweep", cell_timeout: float | None) -> "Sweep":
    """The sweep as it was run: which clips cannot be decoded is known only on the way. `cell_timeout` in seconds."""
    from qtablate.grid import labels
    from qtablate.sweep import sweep as sweeps

    try:
        sweeps.write_sweep_file(planned)
        to_run = planned.to_run()
        if not to_run:
            screen.print(f"All {len(planned.cells)} cells of {planned.store.root} are finished; nothing to run.")
            return planned
        jobs = sweeps.feature_jobs(planned)
        if jobs:
            board = Board("Frozen visual features", {key: key for key, _ in jobs}, planned.processes)
            _follow(screen, board, sweeps.compute_features(planned, jobs), lambda _: "done")
        sweeps.refuse_bad(planned)
        planned = sweeps.settled(planned)
        to_run = planned.to_run()
        for files in (planned.training, planned.benchmark):
            files.mark_used()
        _show_plan(screen, planned, screen)
        board = Board("Cells", labels(to_run), planned.workers)
        _follow(screen, board, sweeps.execute(planned, cell_timeout), lambda key: _outcome(planned.store, key))
        sweeps.write_sweep_file(planned)
    except Stopped as stop:
        sweeps.write_sweep_file(planned)
        raise _stopped(screen, planned, stop) from None
    return planned


def _stopped(screen: Console, planned: "Sweep", stop: Stopped) -> typer.Exit:
    """Say what a stopped sweep keeps and how it goes on; what to raise."""
    done = len(planned.cells) - len(planned.to_run())
    screen.print(f"\nStopped: {done} of {len(planned.cells)} cells are finished and kept in {planned.store.root}.")
    _say(screen, "Go on with the same command: " + _command())
    return typer.Exit(stop.code)


def _follow(screen: Console, board: Board, events: "Generator[Event, None, None]", outcome: Any) -> None:
    """Show events as they come: a live board in a terminal, plain lines elsewhere."""
    failures: list[Event] = []
    try:
        if screen.is_terminal:
            with Live(board.renderable(), console=screen, refresh_per_second=4, transient=True) as live:
                for event in events:
                    board.take(event)
                    live.update(board.renderable(), refresh=event.kind != "progress")
                    if event.kind in ("done", "failed", "notice"):
                        live.console.print(board.line(event, outcome(event.key) if event.kind == "done" else ""))
                    failures += [event] if event.kind == "failed" else []
        else:
            said = time.monotonic()
            for event in events:
                board.take(event)
                if event.kind in ("done", "failed", "notice", "silent"):
                    screen.print(board.line(event, outcome(event.key) if event.kind == "done" else ""), soft_wrap=True)
                elif time.monotonic() - said > _STATUS_EVERY:
                    said = time.monotonic()
                    for line in board.status_lines():
                        screen.print(line, soft_wrap=True)
                failures += [event] if event.kind == "failed" else []
    finally:
        events.close()
    if board.title != "Cells" and failures:
        raise QtablateError(f"{failures[0].key} failed: {failures[0].error}\n{failures[0].traceback}")


def _outcome(store: "Store", key: str) -> str:
    record = store.read_record(key)
    if not record or not record.figures:
        return "done"
    figures = record.figures
    loss = "no supervised token" if figures["train_loss"] is None else f"loss {figures['train_loss']:.3f}"
    return (
        f"accuracy {100 * figures['accuracy']['value']:.1f} %, blind {100 * figures['controls']['blind']['value']:.1f} %, "
        f"{loss}, {clock(figures['train_seconds'] + figures['eval_seconds'] + figures['control_seconds'])}"
    )


def _show_plan(screen: Console, planned: "Sweep", progress: Console) -> "Forecast":
    """Probe, with what is done told on `progress`, and show the plan on `screen`."""
    from qtablate.sweep import sweep as sweeps

    expected = sweeps.estimate(planned, partial(_follow_probes, progress))
    screen.print(sweeps.plan_sheet(planned, expected).rich(screen.width))
    for line in expected.warnings():
        screen.print(line, style="red", soft_wrap=not screen.is_terminal)
    for line in sweeps.defaults_in_words(planned, expected):
        _say(screen, line)
    return expected


def _follow_probes(screen: Console, events: "Events", total: int) -> "Events":
    """The events of probes as they come: a spinner in a terminal; elsewhere a line at the start and one now and then."""
    title = f"Timing a few micro-batches of {total} condition{'s' * (total != 1)}"
    board = Board(title, {}, 1)
    if not screen.is_terminal:
        screen.print(f"{title}, one at a time")
    said = time.monotonic()
    with screen.status(title) if screen.is_terminal else nullcontext() as status:
        for event in events:
            board.labels.setdefault(event.key, event.key)
            if event.text:
                screen.print(f"{event.key}: {event.text}", soft_wrap=True)
            else:
                board.take(event)
            if status:
                running = ", ".join(map(str.strip, board.status_lines()))
                status.update(f"Timing micro-batches, {min(board.over + 1, total)} of {total}: {running}")
            elif time.monotonic() - said > _STATUS_EVERY:
                said = time.monotonic()
                for line in board.status_lines():
                    screen.print(line, soft_wrap=True)
            yield event


def _show_report(screen: Console, store: "Store", **asked: Any) -> None:
    from qtablate.report.build import report as build

    built = build(store, **asked)
    for table in built.tables:
        screen.print(table.rich(screen.width))
        screen.print()
    _say(screen, built.remark or "Written: " + ", ".join(str(path) for path in built.files))


def _say(screen: Console, text: str) -> None:
    """One paragraph: wrapped at words in a terminal, one line elsewhere."""
    screen.print(text, soft_wrap=not screen.is_terminal)


def _command() -> str:
    return " ".join(["qtablate", *sys.argv[1:]])


_USAGE = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""What the command line's parser raises, all kinds of it."""


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, a signal "Stopped." and 128 more than its number; anything
    else is a bug and keeps its traceback."""
    try:
        with interrupts.raised():
            _call()
    except Stopped as stop:  # before a sweep has begun, or outside of one
        Console(stderr=True).print("Stopped.")
        sys.exit(stop.code)


def _call() -> None:
    try:
        _refuse_empty(sys.argv[1:])
        sys.exit(app(prog_name="qtablate", standalone_mode=False))
    except QtablateError as error:
        _complain(str(error))
    except _USAGE as error:
        message, context = cast(Any, error).format_message(), getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message, err=True)
        else:
            message = re.sub(r"^Invalid value for '(\S+)': ", r"\1: ", message).rstrip(".")
            _complain(message + (f"; see {context.command_path} --help" if context else ""))
    sys.exit(2)


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="red", markup=False)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse arguments without a character, which an unset variable of a shell leaves: a path of them would be the current
    folder. Raises QtablateError that names the option."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        if equals and not value.strip():
            named = f"{option}: " if option.startswith("--") else ""
            raise QtablateError(f"{named}expected a value, got an empty one; give it, or leave it out")


if __name__ == "__main__":
    main()
