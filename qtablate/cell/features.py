"""Compute chunks of frozen visual features in a process of its own."""

from collections.abc import Callable

from qtablate.cell.jobs import FeatureJob
from qtablate.cell.process import one_thread
from qtablate.data.sources import open_benchmark, open_training
from qtablate.datatypes import Clips, Frames
from qtablate.execute.events import Notice, Progress
from qtablate.model.directory import read_config
from qtablate.model.load import load
from qtablate.train.device import LOAD_DTYPES, compute_context

Report = Callable[[Progress | Notice], None]


def compute_features(job: FeatureJob, report: Report) -> None:
    """Compute chunks of frozen features and write them to the cache."""
    one_thread()
    model, _ = load(job.data.model, LOAD_DTYPES[job.files.precision], job.frames)
    model.eval()
    model.language_model = None  # not used here; a large one would fill the device for nothing
    compute_context(model, job.files.precision)
    config = {**read_config(job.data.model), "num_frames": job.frames}
    if job.which == "training":
        clips: Clips = open_training(job.data, config, job.samples, job.image_ratio)
    else:
        clips = open_benchmark(job.data, config)
    reported = _ReportedClips(clips, report, sum(len(job.files.chunks[number][1]) for number in job.chunks))
    for number in job.chunks:
        job.files.compute(number, model, reported)


class _ReportedClips:
    """Clips that report each one that is decoded: a chunk of long ones may take minutes."""

    def __init__(self, clips: Clips, report: Report, total: int) -> None:
        self._clips, self._report, self._total, self._done = clips, report, total, 0
        self.fingerprint, self.clips, self.key, self.seconds = clips.fingerprint, clips.clips, clips.key, clips.seconds

    def frames(self, clip: str) -> Frames:
        try:
            return self._clips.frames(clip)
        finally:
            self._done += 1
            self._report(Progress("features", self._done, self._total))
