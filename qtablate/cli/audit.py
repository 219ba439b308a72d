"""`qtablate audit`: measure whether a window's gradient is that of one batch."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from qtablate.axes import ACCUMULATION, AXES, MAX_INTEGER
from qtablate.cli.console import check_writable, console, exit_unless, say, show_tables, write_csv
from qtablate.cli.options import Given, flags, one_of, with_settings
from qtablate.config import validate_config
from qtablate.errors import ConfigError

ACCUMULATIONS = "1,2,4,8"
SETTINGS = (
    *("accum", "batch_size", "mixing", "samples", "image_ratio", "max_grad_norm", "train_language_model", "lora_rank"),
    *("precision", "gradient_checkpointing", "model", "train", "mixture_weights", "media_root"),
)


@with_settings(("grid", "train", "data"), SETTINGS, {"accum": ACCUMULATIONS})
def audit(
    given: Given,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="extra_num_query_tokens. Default: as the model's files have, or 32.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_INTEGER, help="Of initial values and order.")] = 1,
    against: Annotated[str, typer.Option(help="trainer: pass the same windows through transformers' Trainer too.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write every figure as a row of this file.")] = None,
) -> None:
    """Measure whether a window's gradient is that of one batch, on your model and data. Exit code 1 if it is not."""
    from qtablate.audit.measure import audit as measure
    from qtablate.audit.summary import headline, remarks, summary
    from qtablate.audit.tables import as_csv, tables
    from qtablate.model.directory import read_config

    check_writable(csv)
    if against:
        one_of("--against", against, ("trainer",))
    sections: dict[str, dict[str, object]] = {"grid": {"accum": ACCUMULATIONS, "seeds": (seed,)}}
    for (section, name), value in given.items():
        sections.setdefault(section, {})[name] = value
    sections["grid"]["tokens"] = (0,)  # until the model says how many its files have
    config = validate_config(sections, flags(given))
    for axis in AXES:
        if axis != ACCUMULATION and len(levels := config.grid.levels(axis)) > 1:
            raise ConfigError(f"--{axis.option} takes one value here, got {', '.join(map(str, levels))}")
    if tokens is None:
        tokens = read_config(config.data.model)["extra_num_query_tokens"] or 32
    sections["grid"]["tokens"] = (tokens,)
    screen, progress = console(), console(stderr=True)
    with progress.status("Measuring gradients") if progress.is_terminal else nullcontext():
        result = measure(validate_config(sections, flags(given)), bool(against))
    say(screen, headline(result))
    screen.print()
    show_tables(screen, tables(result))
    for line in (*remarks(result), summary(result)):
        say(screen, line)
    write_csv(screen, csv, lambda: as_csv(result))
    exit_unless(result.passed)
