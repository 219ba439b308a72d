"""Configurations for tests: one small cell, with whatever differs named by its field; and a plan run in this process."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qtablate.cell.features import compute_features
from qtablate.cell.run import run_cell
from qtablate.config import SweepConfig, fields, validate_config
from qtablate.grid import RECORD_SCHEMA, CellSettings, Fingerprints
from qtablate.records import PlannedCell, SweepFile
from qtablate.sweep.plan import SweepPlan

SMALL: dict[str, Any] = {
    "tokens": (0,),
    "accum": (1,),
    "batch_size": (8,),
    "seeds": (1,),
    "image_ratio": 0.0,
    "controls": ("blind",),
}
SETTINGS = CellSettings(
    samples=960,
    image_ratio=0.25,
    learning_rate=1e-3,
    warmup_ratio=0.2,
    min_lr_ratio=0.25,
    weight_decay=0.02,
    adam_beta1=0.9,
    max_grad_norm=None,
    train_language_model=False,
    max_text_tokens=256,
)


def config(**changes: Any) -> SweepConfig:
    """A sweep of one cell; a setting is named by its field alone, None takes the configuration's own default."""
    sections = {name: section for section, name in fields()} | {"conditions": "grid"}
    values: dict[str, dict[str, Any]] = {}
    for name, value in (SMALL | changes).items():
        if value is not None:
            values.setdefault(sections[name], {})[name] = value
    return validate_config(values)


def settings(**changes: Any) -> CellSettings:
    """What the cells of a sweep share."""
    return replace(SETTINGS, **changes)


def compute(plan: SweepPlan) -> None:
    """Compute the features of a plan in this process."""
    for _, job in plan.feature_jobs():
        compute_features(job, lambda _: None)


def run(plan: SweepPlan) -> SweepPlan:
    """Run a plan as `run_sweep` does, in this process; the plan as it was run."""
    compute(plan)
    plan.check_invalid_share()
    plan = plan.rekeyed()
    for cell in plan.to_run():
        run_cell(plan.cell_job(cell), lambda _: None)
    return plan


def sweep_file(cells: Sequence[PlannedCell], benchmark: str = "b", items: int = 0, **changes: Any) -> SweepFile:
    """sweep.json of a sweep that was written by hand: of its configuration only what the tables read is set."""
    whole = {"config": config(), "settings": SETTINGS, "reference_batch": 8, "problems": (), "base_accuracy": {}}
    return SweepFile(
        schema=RECORD_SCHEMA,
        fingerprints=Fingerprints("m", "t", benchmark),
        num_query_tokens=2,
        items=items,
        cells=tuple(cells),
        versions={"torch": "2"},
        **{**whole, **changes},
    )
