"""qtablate: which visual-query budget and which gradient accumulation should a video language model be trained with?

from qtablate import GridConfig, SweepConfig, load, run_sweep

results = run_sweep(SweepConfig(grid=GridConfig(tokens=(0, 32), seeds=(1, 2, 3))))
results.contrasts  # pandas frames; load("results/nano-world") reads them again
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtablate.config import DataConfig, EvalConfig, SweepConfig, TrainConfig
    from qtablate.grid_config import GridConfig
    from qtablate.report.results import Results, load
    from qtablate.run_config import RunConfig
    from qtablate.sweep.events import SweepEvent
    from qtablate.sweep.run import run_sweep

__version__ = "0.1.0"
__all__ = [
    "DataConfig",
    "EvalConfig",
    "GridConfig",
    "Results",
    "RunConfig",
    "SweepConfig",
    "SweepEvent",
    "TrainConfig",
    "load",
    "run_sweep",
]
_MODULES = {
    "GridConfig": "grid_config",
    "RunConfig": "run_config",
    "Results": "report.results",
    "load": "report.results",
    "SweepEvent": "sweep.events",
    "run_sweep": "sweep.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'qtablate' has no attribute '{name}'")
    return getattr(import_module(f"qtablate.{_MODULES.get(name, 'config')}"), name)
