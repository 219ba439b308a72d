"""Where and how the cells of a sweep run: the section `run` of its configuration."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from qtablate.axes import parse_integer
from qtablate.setting import Option, Section, comma_list, named_folder, parse_parameters

Executor = Literal["local", "slurm", "ray"]
TrackerName = Literal["tensorboard", "wandb", "mlflow"]


def _jobs(value: Any) -> Any:
    """`auto` as None, a number in text as a number."""
    if not isinstance(value, str):
        return value
    return None if value.strip() == "auto" else parse_integer(value, 1, "; give a number, or auto")


class RunConfig(Section):
    """Where and how cells run: nothing here changes a result but by rounding."""

    out: Annotated[
        Path | None, BeforeValidator(named_folder), Option("--out", "Results folder.", default="results/MODEL-BENCH")
    ] = None
    """Results folder. None: results/MODEL-BENCH."""
    jobs: Annotated[
        int | None,
        Field(ge=1),
        BeforeValidator(_jobs),
        Option("--jobs", "Cells at once; auto: as GPUs, or cores and memory, allow.", "N|auto", default="auto"),
    ] = None
    """Cells at once. None, or `auto`: as many as GPUs allow or, without any, cores and memory."""
    cells_per_gpu: Annotated[
        int, Field(ge=1), Option("--cells-per-gpu", "Cells that share a GPU; --jobs auto runs as many on each.")
    ] = 1
    """Cells that share a GPU where `jobs` is `auto`."""
    executor: Annotated[
        Executor,
        Option("--executor", "Where cells run: local, slurm or ray (clusters; see qtablate explain machines)."),
    ] = "local"
    """Where cells run (sweep/executors.py)."""
    slurm: Annotated[
        tuple[str, ...],
        BeforeValidator(parse_parameters),
        Option("--slurm", "Options of sbatch for each cell's job, such as partition=gpu,gres=gpu:1,time=120.", metavar=""),
    ] = ()
    """Options of sbatch for each cell's job, each as `name=value`."""
    ray: Annotated[str, Field(min_length=1), Option("--ray", "Address of the Ray cluster: auto, or HOST:PORT.")] = "auto"
    """Address of the Ray cluster."""
    gpus_per_cell: Annotated[
        float, Field(ge=0), Option("--gpus-per-cell", "GPUs that a cell takes on a Ray cluster; 0: none, 0.5: two share one.")
    ] = 0.0
    """GPUs that a cell takes on a Ray cluster."""
    processes_per_cell: Annotated[
        int, Field(ge=1), Option("--processes-per-cell", "Processes that train one cell together, each on a GPU or a core.")
    ] = 1
    """Processes that train one cell together, each with a share of every micro-batch."""
    oom_retries: Annotated[
        int,
        Field(ge=0),
        Option("--oom-retries", "Times that a cell out of memory is tried again, its micro-batches in twice as many parts."),
    ] = 2
    """Times that a cell which runs out of memory is tried again, each micro-batch computed in twice as many parts. The gradient
    is the same but for rounding; such cells are marked. 0: never."""
    checkpoint_minutes: Annotated[
        float,
        Field(ge=0),
        Option("--checkpoint-minutes", "Minutes between two checkpoints of a cell in training; 0: only at its end."),
    ] = 10.0
    """Minutes between two checkpoints of a cell in training; 0: only when its training has ended."""
    cell_timeout: Annotated[
        float | None,
        Field(ge=0.01),
        Option("--cell-timeout", "Minutes after which a cell is ended and counts as failed.", default="none"),
    ] = None
    """Minutes after which a cell is ended and counts as failed. None: never."""
    confirm: Annotated[
        int,
        Field(ge=0),
        Option(
            "--confirm",
            "Fresh seeds to train the recommended and the baseline condition with, when the grid is finished.",
            default="0: none",
        ),
    ] = 0
    """Seeds that take no part in the choice, with which the recommended and the baseline condition are trained when the grid is
    finished. 0: none."""
    track: Annotated[
        tuple[TrackerName, ...],
        comma_list(TrackerName, may_be_empty=True),
        Option("--track", "Experiment trackers that get a run per cell: tensorboard, wandb, mlflow."),
    ] = ()
    """Experiment trackers that get a run per cell (qtablate/track/)."""
    until_decided: Annotated[
        bool,
        Option(
            "--until-decided",
            "Add seeds one by one, and none to conditions whose primary contrasts are decided: qtablate explain statistics.",
            negative="--no-until-decided",
        ),
    ] = False
    """Whether seeds are added one by one, and none to conditions whose primary contrasts are decided (report/until_decided.py).
    Intervals and p-values are then those of repeated looks."""
    only: Annotated[
        str,
        Option(
            "--only",
            "Run only these cells of the grid now, such as 'tokens=32,accum=4; tokens=0,seed=1'; the others stay planned.",
            default="all",
        ),
    ] = ""
    """Which cells of the grid are run now: levels by the axis' option, and `seed`, of which a cell has all; several of these,
    with semicolons. Empty: all. Plan, sweep.json and report stay those of the whole grid."""
    retry_failed: Annotated[
        bool | None,
        Option(
            "--retry-failed",
            "Run only cells that have failed before, or, with --no-retry-failed, only those that have not.",
            negative="--no-retry-failed",
            default="both",
        ),
    ] = None
    """Whether cells that have failed before are the only ones to run (true) or are left out (false). None: neither."""
    max_failures: Annotated[
        int | None,
        Field(ge=1),
        Option("--max-failures", "Start no more cells after this many have failed in this run.", default="none"),
    ] = None
    """Failed cells of one run after which no more are started; those that run are finished. None: all are tried."""
    order: Annotated[
        Literal["seeds", "conditions"],
        Option("--order", "What is finished first: seeds (whole comparisons) or conditions (all seeds of one)."),
    ] = "seeds"
    """Whether cells run seed by seed, which has whole comparisons early, or condition by condition."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.jobs and self.cells_per_gpu > 1:
            raise ValueError(
                f"--cells-per-gpu {self.cells_per_gpu} says how many cells --jobs auto runs on each GPU, and --jobs "
                f"{self.jobs} says how many in all: leave one out"
            )
        if self.max_failures and self.executor != "local":
            raise ValueError(
                f"--max-failures holds back cells that wait on this machine, and --executor {self.executor} hands all of them "
                "over at once: leave one out"
            )
        if self.until_decided and self.only:
            raise ValueError("--until-decided looks at all conditions of a seed, and --only leaves some out: leave one out")
        if self.until_decided and self.order != "seeds":
            raise ValueError("--until-decided adds seeds one by one: leave out --order conditions")
        return self

    @property
    def slurm_parameters(self) -> list[tuple[str, str]]:
        """Name and value of each option of sbatch."""
        return [(name, value) for name, _, value in (one.partition("=") for one in self.slurm)]

    @property
    def checkpoint_seconds(self) -> float | None:
        """Seconds between two checkpoints, at least two of them before a cell is ended, so that each further run gets on.
        None: only when training has ended."""
        minutes = min(self.checkpoint_minutes, self.cell_timeout / 3) if self.cell_timeout else self.checkpoint_minutes
        return 60 * minutes or None

    @property
    def cell_timeout_seconds(self) -> float | None:
        """Seconds after which a cell is ended. None: never."""
        return 60 * self.cell_timeout if self.cell_timeout else None
