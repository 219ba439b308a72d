"""The benchmark that a sweep scored, opened again for its questions and clips; a user's Python file is not run for it."""

from qtablate.data.sources import open_benchmark
from qtablate.datatypes import Benchmark
from qtablate.errors import QtablateError
from qtablate.model.directory import read_config
from qtablate.report.results import Results


def needs_custom(results: Results, run_custom: bool) -> bool:
    """Whether questions and clips are in a Python file that may not be run."""
    return results.sweep.config.data.bench.startswith("custom:") and not run_custom


def scored_benchmark(results: Results, run_custom: bool) -> tuple[Benchmark | None, str]:
    """Open the benchmark that the sweep scored; None and the reason where that cannot be done."""
    sweep = results.sweep
    if needs_custom(results, run_custom):
        return None, "they are in a Python file, which a report does not run; the page that a sweep writes has them"
    try:
        config = read_config(sweep.config.data.model)
        levels = {cell.condition["frames"] for cell in sweep.cells}
        frames = config["num_frames"] if config["num_frames"] in levels else min(levels)
        benchmark = open_benchmark(sweep.config.data, {**config, "num_frames": frames})
        fingerprint = benchmark.fingerprint
    except (QtablateError, OSError) as error:
        return None, str(error).partition("\n")[0]
    if sweep.fingerprints.benchmark != fingerprint:
        return None, f"{sweep.config.data.bench} is not what it was when the sweep ran"
    return benchmark, ""
