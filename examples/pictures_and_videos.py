"""Mix real image questions and procedural videos in one training set and one benchmark.

    pip install easy-vqa
    python examples/pictures_and_videos.py mixed
    qtablate sweep --bench mvbench:mixed --train mixed/train.yaml --image-ratio 0.5 --tokens 0,32

easy-vqa (4,000 + 1,000 images of one shape each, questions with 13 answers) becomes an instruction file with one sample per
image, and three tasks `picture_*` beside the world's twenty. train.yaml names both sources of training data. A second argument
is the number of items per task, 40 otherwise.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from qtablate.data.export import export_world
from qtablate.seeds import Rng

TASKS = {"picture_shape": "shape?", "picture_color": "color", "picture_presence": ("does", "is")}
"""By task: the ending, a word or the beginning of its questions."""
SOURCES = """\
- file: pictures.json
  media_root: pictures
- file: world
  media: video
"""


def questions(part: str) -> tuple[Path, list[tuple[str, str, int]]]:
    """Return the image folder and (question, answer, image number) rows of the "train" or "test" part of easy-vqa."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        sys.exit("pip install easy-vqa")
    folder = Path(spec.origin).parent / "data" / part
    return folder / "images", [tuple(row) for row in json.loads((folder / "questions.json").read_text())]


def task_of(question: str) -> str:
    """Return the task that a question belongs to."""
    if question.startswith(TASKS["picture_presence"]):
        return "picture_presence"
    return "picture_color" if TASKS["picture_color"] in question else "picture_shape"


def write_training(out: Path) -> int:
    """Write pictures.json in VideoChat2-IT's format and its images; return the number of samples."""
    images, rows = questions("train")
    shutil.copytree(images, out / "pictures")
    turns: dict[int, list[dict[str, str]]] = {}
    for question, answer, picture in rows:
        turns.setdefault(picture, []).append({"i": "", "q": question, "a": answer})
    entries = [{"image": f"{picture}.png", "QA": pairs} for picture, pairs in turns.items()]
    (out / "pictures.json").write_text(json.dumps(entries))
    (out / "train.yaml").write_text(SOURCES)
    return len(entries)


def write_tasks(out: Path, items: int) -> None:
    """Write json/picture_*.json: some of the test part's questions, with candidates drawn from the task's answers."""
    images, rows = questions("test")
    by_task: dict[str, list[tuple[str, str, int]]] = {task: [] for task in TASKS}
    for row in rows:
        by_task[task_of(row[0])].append(row)
    for task, own in by_task.items():
        answers, rng, entries = sorted({answer for _, answer, _ in own}), Rng("easy-vqa", task), []
        for question, answer, picture in rng.sample(own, items):
            others = rng.sample([other for other in answers if other != answer], 3)
            candidates = rng.shuffled([answer, *others])
            entries.append({"video": f"{picture}.png", "question": question, "candidates": candidates, "answer": answer})
            (out / "video" / task).mkdir(exist_ok=True)
            shutil.copyfile(images / f"{picture}.png", out / "video" / task / f"{picture}.png")
        (out / "json" / f"{task}.json").write_text(json.dumps(entries, indent=1))


def main() -> None:
    """Write the benchmark and the training data, and print the command that sweeps them."""
    out, items_per_task = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40
    export_world(out, items_per_task)
    write_tasks(out, items_per_task)
    count = write_training(out)
    print(f"{count} pictures with their conversations, {len(TASKS)} tasks beside the world's, in {out}")
    print(f"qtablate sweep --bench mvbench:{out} --train {out}/train.yaml --image-ratio 0.5 --tokens 0,32")


if __name__ == "__main__":
    main()
