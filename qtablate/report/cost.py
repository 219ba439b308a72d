"""What a condition costs: in a language model of the user's size, and as measured here; and which ones are worth it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qtablate.errors import QtablateError
from qtablate.report.contrasts import (
    ALL,
    EQUIVALENT,
    NOT_COMPARABLE,
    SIMPLE,
    UNDECIDED,
    WORSE,
    Answers,
    Condition,
    Contrast,
    table,
)
from qtablate.report.frames import AXES
from qtablate.report.labels import named, shown_axes
from qtablate.statistics.clustered import MIN_CLIPS

TEXT = 64  # tokens of prompt and question that stand beside the visual ones
BYTES = 2  # a number in the cache, bf16
BEST, HIGHEST = "best", "highest"
"""What the condition of the highest accuracy is called: where the data support that it is best, and where they do not."""
ERRORS = 2
"""Standard errors that an accuracy must be above chance, and above its blind control, for its condition to be advised."""
COLUMNS = (
    *AXES,
    "incorrect",
    "visual_tokens",
    "language_model",
    "prefill_gflops",
    "prefill_gflops_added",
    "cache_mb",
    "cache_mb_added",
    "step_seconds",
    "item_milliseconds",
    "peak_memory_mb",
    "train_seconds",
    "accuracy",
    "pareto_by_tokens",
    "pareto_by_time",
    "equivalent_to_best",
)


@dataclass(frozen=True, slots=True)
class Decoder:
    """The shape of a decoder-only language model with gated feed-forward layers."""

    name: str
    layers: int
    width: int
    heads: int
    key_value_heads: int
    inner: int
    head_width: int

    @property
    def weights(self) -> int:
        """Of the linear layers that every token passes."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    def prefill_flops(self, tokens: int) -> float:
        """Of reading so many tokens at once: two a weight and token, and attention over all pairs, as PyTorch's flop
        counter has it (nothing saved for causality, no vocabulary)."""
        return 2.0 * self.weights * tokens + 4.0 * self.layers * self.heads * self.head_width * tokens**2

    def cache_bytes(self, tokens: int) -> int:
        """Keys and values of every layer."""
        return 2 * self.layers * self.key_value_heads * self.head_width * BYTES * tokens


DECODERS = {
    "7b": Decoder("Vicuna-7B", 32, 4096, 32, 32, 11008, 128),
    "13b": Decoder("Vicuna-13B", 40, 5120, 40, 40, 13824, 128),
    "mistral-7b": Decoder("Mistral-7B", 32, 4096, 32, 8, 14336, 128),
    "phi-3-mini": Decoder("Phi-3-mini", 32, 3072, 32, 32, 8192, 96),
}
"""The language models of VideoChat2's variants, from their published config.json."""


def decoder(name: str) -> Decoder:
    """One of DECODERS, or the model that a config.json, or the directory that holds one, describes."""
    if name in DECODERS:
        return DECODERS[name]
    path = Path(name) / "config.json" if Path(name).is_dir() else Path(name)
    try:
        config = json.loads(path.read_text())
        config = config.get("text_config") or config
        heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        called = path.parent.name if path.name == "config.json" else path.stem
        return Decoder(
            called,
            int(config["num_hidden_layers"]),
            width,
            heads,
            int(config.get("num_key_value_heads") or heads),
            int(config["intermediate_size"]),
            int(config.get("head_dim") or width // heads),
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        known = ", ".join(DECODERS)
        raise QtablateError(f"--at {name}: neither one of {known} nor a language model's config.json ({why})") from None


def costs(conditions: pd.DataFrame, given: Answers, model: Decoder, margin: float) -> pd.DataFrame:
    """A row a finished condition of the summary. Two fronts: no condition with fewer visual tokens, or with less training
    time, scores as high; those that break a rule of accumulation are on none."""
    done = conditions[conditions["seeds_done"] > 0]
    rows = []
    for row in done.to_dict("records"):
        tokens = int(row["visual_tokens"])
        flops, cache = model.prefill_flops(TEXT + tokens), model.cache_bytes(TEXT + tokens)
        rows.append(
            {
                **{axis: row[axis] for axis in AXES},
                "incorrect": row["incorrect"],
                "visual_tokens": tokens,
                "language_model": model.name,
                "prefill_gflops": flops / 1e9,
                "prefill_gflops_added": (flops - model.prefill_flops(TEXT)) / 1e9,
                "cache_mb": cache / 1e6,
                "cache_mb_added": model.cache_bytes(tokens) / 1e6,
                "step_seconds": row["train_seconds"] / row["steps"] if row["steps"] else None,
                "item_milliseconds": 1000 * row["eval_seconds"] / row["n_items"],
                "peak_memory_mb": row["peak_memory_mb"],
                "train_seconds": row["train_seconds"],
                "accuracy": row["accuracy"],
            }
        )
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    right = out["incorrect"] == ""
    for column, cost in (("pareto_by_tokens", "visual_tokens"), ("pareto_by_time", "train_seconds")):
        out[column] = False
        out.loc[right, column] = front(list(out.loc[right, cost]), list(out.loc[right, "accuracy"]))
    out["equivalent_to_best"] = as_good(done, given, margin)
    return out


def front(cost: Sequence[float], value: Sequence[float]) -> list[bool]:
    """Which points nothing beats: no other is as cheap and better, or cheaper and as good."""
    points = list(zip(cost, value, strict=True))
    return [not any((c <= mine and v > good) or (c < mine and v >= good) for c, v in points) for mine, good in points]


def as_good(done: pd.DataFrame, given: Answers, margin: float) -> list[str]:
    """A word for each finished condition of the summary. `best`: the highest accuracy, where it is above chance and the blind
    control and at least one other condition is surely worse than it or within the margin of it; otherwise `highest`. The
    others: `equivalent` where surely within the margin of that one, `undecided`, `not comparable`, and nothing where surely
    worse (Holm over the conditions). Those that break a rule of accumulation have none."""
    right = [one for one in given.conditions if not given.incorrect(one)]
    if done.empty or not right:
        return [""] * len(done)
    mean = {one: sum(given.right[one, s].mean() for s in given.seeds_of(one)) for one in right}
    best = max(mean, key=lambda one: mean[one] / len(given.seeds_of(one)))
    others = [one for one in right if one != best]
    wanted = [Contrast(SIMPLE, "condition", number, BEST, {one: 1.0, best: -1.0}) for number, one in enumerate(others)]
    rows = table(given, wanted, margin, tasks=False)
    verdicts = {others[int(row["level"])]: row["verdict"] for _, row in rows[rows["task"] == ALL].iterrows()}
    says = {WORSE: "", EQUIVALENT: EQUIVALENT, NOT_COMPARABLE: NOT_COMPARABLE}
    words: dict[Condition, str] = {one: says.get(verdict, UNDECIDED) for one, verdict in verdicts.items()}
    records = [{str(name): value for name, value in row.items()} for row in done.to_dict("records")]
    conditions = [tuple(row[axis] for axis in given.axes) for row in records]
    decided = any(verdict in (WORSE, EQUIVALENT) for verdict in verdicts.values())
    above = any(above_chance(row) for row, one in zip(records, conditions, strict=True) if one == best)
    words[best] = BEST if decided and above else HIGHEST
    return [words.get(one, "") for one in conditions]


def above_chance(row: Mapping[str, Any]) -> bool:
    """Whether a condition of the summary scores above chance, and above its blind control where that was run, by ERRORS
    standard errors over items, of clips enough to have them."""
    over = [(row["accuracy"] - row["chance"], row["accuracy_item_stderr"])]
    if not pd.isna(row["visual_gain"]):
        over.append((row["visual_gain"], row["visual_gain_item_stderr"]))
    return bool(row["n_clusters"] >= MIN_CLIPS and all(gain > ERRORS * error for gain, error in over))


def advice(out: pd.DataFrame, conditions: pd.DataFrame, margin: float) -> str:
    """The cheapest condition that is as good as the best, in words; or why the data advise none. `out`: what `costs` found for
    these conditions of the summary."""
    if not out["equivalent_to_best"].isin((BEST, HIGHEST)).any():
        return ""
    shown = shown_axes(out)

    def called(row: "pd.Series[Any]") -> str:
        levels = ", ".join(named({str(name): level for name, level in row.items()}, shown))
        return f"{levels} ({100 * row['accuracy']:.1f} %)"

    best = out[out["equivalent_to_best"].isin((BEST, HIGHEST))].iloc[0]
    if best["equivalent_to_best"] == HIGHEST:
        return f"{_why_none(out, conditions, called(best), margin)}: no advice."
    text = f"Best here: {called(best)}. "
    open_ = [called(row) for _, row in out[out["equivalent_to_best"] == UNDECIDED].iterrows()]
    if open_:
        text += f"Undecided beside it: {'; '.join(open_)}. "
    good = out[out["equivalent_to_best"].isin((BEST, EQUIVALENT))].sort_values(
        ["visual_tokens", "train_seconds"], kind="stable"
    )
    cheapest = good.iloc[0]
    if cheapest.name == best.name:
        return text + f"No cheaper condition is surely within {100 * margin:g} points of it."
    return text + (
        f"Cheapest that is surely within {100 * margin:g} points of it: {called(cheapest)}, "
        f"{int(cheapest['visual_tokens'])} instead of {int(best['visual_tokens'])} visual tokens."
    )


def _why_none(out: pd.DataFrame, conditions: pd.DataFrame, highest: str, margin: float) -> str:
    """Why the condition of the highest accuracy is not called best."""
    done = conditions[conditions["seeds_done"] > 0]
    clips = int(done["n_clusters"].max())
    if clips < MIN_CLIPS:
        return f"Too few clips to call a condition best ({clips}, fewer than {MIN_CLIPS})"
    above = [above_chance({str(name): value for name, value in row.items()}) for row in done.to_dict("records")]
    blind = " and its blind control" if done["visual_gain"].notna().any() else ""
    bar = f"chance ({100 * done['chance'].iloc[0]:.1f} %){blind} by {ERRORS} standard errors"
    if not any(above):
        return f"No condition scores above {bar}"
    if not above[list(out["equivalent_to_best"]).index(HIGHEST)]:
        return f"The highest, {highest}, is not above {bar}"
    if (out["incorrect"] == "").sum() == 1:
        return f"One condition alone, {highest}, is compared with none"
    return f"Highest: {highest}, but no other condition is surely worse than it or within {100 * margin:g} points of it"
