"""The files of a cell: which columns they have, and what stands in them. `qtablate explain columns` documents every one."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from qtablate.evaluate.attention import TokenAttention
from qtablate.evaluate.prompt import GENERATE
from qtablate.evaluate.scores import Scores
from qtablate.evaluate.token_ablation import AblationResult
from qtablate.prompts.mvbench import official_check
from qtablate.store import Store
from qtablate.train.loop import Step

TRAIN_COLUMNS = (
    "step",
    "samples_seen",
    "supervised_tokens",
    "loss",
    "grad_norm",
    "extra_grad_norm",
    "extra_update",
    "query_update",
    "extra_cosine",
    "extra_rank",
    "grad_signal",
    "grad_noise",
    "lr",
    "image_ratio",
    "seconds",
)
ANSWER_COLUMNS = (
    "control",
    "item",
    "task",
    "cluster",
    "gold",
    "predicted",
    "predicted_per_token",
    "correct",
    "correct_per_token",
    "options",
    "scores",
    "tokens",
)
ABLATION_COLUMNS = ("ablation", "start", "end", "n_items", "accuracy", "accuracy_stderr", "change", "change_stderr")
ATTENTION_COLUMNS = ("token", "extra", "from_question", "from_answer")
"""In front of a column per place that a token attends to, `place_FRAME_ROW_COLUMN`."""


class CellFiles:
    """Writes the files of one cell."""

    def __init__(self, store: Store, key: str, check: Callable[[], None] = lambda: None) -> None:
        """Write the files of a cell; `check` is called before each, and raises where it must not be written."""
        self._store, self._key, self._check = store, key, check

    def train(self, steps: Iterable[Step]) -> None:
        """train.csv: a row per optimizer step."""
        self._write("train.csv", [{name: getattr(step, name) for name in TRAIN_COLUMNS} for step in steps], TRAIN_COLUMNS)

    def answers(self, answers: Mapping[str, Sequence[Scores]]) -> None:
        """answers.csv: a row per item and control."""
        rows = [_answer_row(control, one) for control, scores in answers.items() for one in scores]
        self._write("answers.csv", rows, ANSWER_COLUMNS)

    def scorer_agreement(self, by_scorer: Mapping[str, Sequence[Scores]]) -> None:
        """scorers.csv: a row per item, a column per scorer."""
        rows = [_scorer_row(scores) for scores in zip(*by_scorer.values(), strict=True)]
        generated = ("official_check", "text") if GENERATE in by_scorer else ()
        self._write("scorers.csv", rows, ("item", "task", "cluster", "gold", *by_scorer, *generated))

    def token_ablation(self, results: Sequence[AblationResult]) -> None:
        """token_ablation.csv: a row per part of the visual tokens that is left out."""
        rows = [
            {
                "ablation": result.ablation.kind,
                "start": result.ablation.start,
                "end": result.ablation.end,
                "n_items": result.accuracy.n,
                "accuracy": result.accuracy.value,
                "accuracy_stderr": result.accuracy.stderr,
                "change": result.change.value,
                "change_stderr": result.change.stderr,
            }
            for result in results
        ]
        self._write("token_ablation.csv", rows, ABLATION_COLUMNS)

    def attention(self, maps: Sequence[TokenAttention]) -> None:
        """attention.csv: a row per visual token, a column per place that it attends to."""
        places = {place: "place_{}_{}_{}".format(*place) for place in maps[0].regions}  # frame, row, column
        rows = [
            {
                "token": one.token,
                "extra": int(one.extra),
                "from_question": one.from_question,
                "from_answer": one.from_answer,
                **{places[place]: share for place, share in one.regions.items()},
            }
            for one in maps
        ]
        self._write("attention.csv", rows, (*ATTENTION_COLUMNS, *places.values()))

    def _write(self, name: str, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
        self._check()
        self._store.write_rows(self._store.cell_file(self._key, name), rows, columns)


def _answer_row(control: str, one: Scores) -> dict[str, object]:
    item = one.item
    return {
        "control": control,
        "item": item.id,
        "task": item.task,
        "cluster": item.cluster,
        "gold": item.answer,
        "predicted": one.predicted,
        "predicted_per_token": one.predicted_per_token,
        "correct": int(one.predicted == item.answer),
        "correct_per_token": int(one.predicted_per_token == item.answer),
        "options": len(item.options),
        "scores": ";".join(f"{total:.6g}" for total in one.log_likelihoods),
        "tokens": ";".join(map(str, one.token_counts)),
    }


def _scorer_row(scores: Sequence[Scores]) -> dict[str, object]:
    """One item as every scorer reads it."""
    item = scores[0].item
    row: dict[str, object] = {"item": item.id, "task": item.task, "cluster": item.cluster, "gold": item.answer}
    for one in scores:
        row[one.scorer] = one.predicted
        if one.scorer == GENERATE:
            row |= {"official_check": int(official_check(one.text, item.answer)), "text": one.text}
    return row
