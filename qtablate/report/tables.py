"""Frames -> sheets: what each table of the report shows and what its note says. A new table is one function."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from qtablate.axes import AXES, SPLIT, told
from qtablate.controls import CONTROLS
from qtablate.prompts.mvbench import MEDIA_ROOTS, PUBLISHED, SCORERS
from qtablate.report.batch_split_check import EARLY, LOSS_TOLERANCE, NEAR_TIE, Pair
from qtablate.report.compare import Comparison
from qtablate.report.contrasts import (
    ALL,
    BETTER,
    EQUIVALENT,
    IDENTICAL,
    INTERACTION,
    ITEMS_ONLY,
    MAIN,
    NOT_COMPARABLE,
    RIGHT,
    SIMPLE,
    UNDECIDED,
    WORSE,
)
from qtablate.report.labels import NAMES, heads, levels_of, named, shown_axes
from qtablate.report.token_ablation import remedy
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.store import DAMAGED
from qtablate.table import TOO_FEW, WIDEST, Table, number, percent, points, says_nothing, with_error
from qtablate.video.isolated import RETRYABLE


def summary_table(table: pd.DataFrame, held: str) -> Table:
    """The main table: a row a condition. `held`: the budget in words."""
    shown = shown_axes(table)
    columns = [
        *heads(shown),
        "batch",
        "steps",
        "loss",
        "accuracy %",
        "seed sd",
        "blind %",
        "visual gain",
        "temporal gain",
        "train s",
        "seeds",
    ]
    rows = []
    for row in _records(table):
        seeds = f"{row['seeds_done']}" + ("" if row["seeds_done"] == row["seeds_wanted"] else f"/{row['seeds_wanted']}")
        rows.append(
            (
                *levels_of(row, shown),
                number(row["effective_batch_size"]),
                number(row["steps"]),
                number(row["train_loss"], 3),
                with_error(row["accuracy"], row["accuracy_item_stderr"], row["n_clusters"]),
                percent(row["accuracy_seed_sd"]),
                percent(row["blind_accuracy"]),
                with_error(row["visual_gain"], row["visual_gain_item_stderr"], row["n_clusters"]),
                with_error(row["temporal_gain"], row["temporal_gain_item_stderr"], row["n_clusters"]),
                number(row["train_seconds"]),
                seeds,
            )
        )
    done = table[table["seeds_done"] > 0]
    note = "no cell has finished"
    if len(done):
        first = done.iloc[0]
        gains = {
            "visual_gain": "visual gain = accuracy - blind",
            "temporal_gain": "temporal gain = accuracy - that on shuffled frames",
        }
        formulas = ", ".join(says for name, says in gains.items() if done[name].notna().any())
        note = (
            f"accuracy over {_many(int(first['n_items']), 'item')} of {_many(int(first['n_clusters']), 'clip')}, mean of the "
            f"seeds; ± is the standard error over items, clustered by clip{_without_error(done)}; seed sd is the spread "
            f"between seeds{', which one seed does not tell' if (done['seeds_done'] == 1).all() else ''}; chance is "
            f"{percent(first['chance'])}{'; ' * bool(formulas)}{formulas}. Held: {held}."
        )
        if (done["accuracy_macro"] - done["accuracy"]).abs().max() >= 0.0005:
            macro = ", ".join(percent(value) for value in done["accuracy_macro"])
            note += f" Mean over tasks rather than items, row by row: {macro}."
        if done["seeds_done"].nunique() > 1:
            counts = ", ".join(str(count) for count in done["seeds_done"])
            note += f" Means of different seeds, of {counts} row by row: what the data support compares those in common."
    narrow = ("train s", "loss", "seeds", "batch", "temporal gain", "steps")
    optional = tuple(name for name in narrow if name in columns)
    return Table("Conditions", tuple(columns), tuple(rows), note, optional=optional)


def _without_error(done: pd.DataFrame) -> str:
    """Why some figures of the summary stand without a standard error."""
    if done["n_clusters"].min() < MIN_CLIPS:
        return f" ({TOO_FEW}: fewer than {MIN_CLIPS} clips)"
    alike = (done[["accuracy_item_stderr", "visual_gain_item_stderr", "temporal_gain_item_stderr"]] == 0).any(axis=None)
    return " (none where all clips scored alike: the spread is not known)" if alike else ""


def control_table(table: pd.DataFrame) -> Table | None:
    """A row a condition: its accuracy with less and less to see."""
    done = table[table["seeds_done"] > 0]
    ran = [control for control in CONTROLS if done[f"{control}_accuracy"].notna().any()]
    if len(ran) < 2:  # blind stands in the main table
        return None
    shown = shown_axes(table)
    rows = [
        (
            *levels_of(row, shown),
            percent(row["accuracy"]),
            *(percent(row[f"{control}_accuracy"]) for control in ran),
            *(number(row[name], 1) for name in ("eval_seconds", "control_seconds")),
        )
        for row in _records(done)
    ]
    note = "accuracy % of the same items shown " + ", ".join(f"{CONTROLS[name]} ({name})" for name in ran)
    note += "; mean of the seeds. Seconds: scoring a cell as it is, and under all controls."
    columns = (*heads(shown), "accuracy %", *ran, "eval s", "controls s")
    return Table("Controls", columns, tuple(rows), note, optional=("eval s", "controls s"))


def scorer_table(table: pd.DataFrame) -> Table | None:
    """A row a condition: its answers read in several ways."""
    if table.empty:
        return None
    shown = shown_axes(table)
    ran = [how for how in (*SCORERS, "official_check") if table[how].notna().any()]
    pairs = [name for name in table.columns if str(name).endswith("_agree") and table[name].notna().any()]
    shares = [name for name in ("unparsed", "official_check_differs") if table[name].notna().any()]
    rows = [
        (*levels_of(row, shown), *(percent(row[how]) for how in ran), *(percent(row[name]) for name in (*shares, *pairs)))
        for row in _records(table)
    ]
    agreeing = [name.removesuffix("_agree").replace("_", "=") for name in pairs]
    columns = (*heads(shown), *ran, *(name.replace("official_check_differs", "differs") for name in shares), *agreeing)
    says = {
        "likelihood": "of each option's text",
        "letter": "of its letter behind 'Best option:('",
        "generate": "a greedy answer read strictly",
        "circular": "by letter, right in every rotation of the options",
        "official_check": "the same answer by the original's own check, which an empty one passes",
    }
    note = "accuracy % by " + "; ".join(f"{how}: {says[how]}" for how in ran) + " (standard errors: scorer_agreement.csv)"
    if shares:
        note += "; unparsed: generated answers that name no option, counted as wrong; differs: strict and upstream disagree"
    note += "; =: items on which two ways choose the same." if pairs else "."
    said = [row for row in _records(table) if isinstance(row["predicted_letters"], str)]
    if said:
        each = ", ".join(f"{'/'.join(levels_of(row, shown))}: {row['predicted_letters']}" for row in said)
        note += f" Letters chosen, %: {each}; gold: {said[0]['gold_letters']}."
    narrow = tuple(name for name in (*agreeing, "differs", "unparsed") if name in columns)
    return Table("Ways of reading an answer", columns, tuple(rows), note, optional=narrow)


def diagnostics_table(table: pd.DataFrame, margin: float) -> Table | None:
    """A row a condition with extra tokens: how alike they are and what they are worth."""
    if table.empty:
        return None
    shown = shown_axes(table)
    rows = [
        (
            *levels_of(row, shown),
            number(row["query_rank"], 1),
            number(row["query_cosine"], 2),
            number(row["output_rank"], 1),
            number(row["output_cosine"], 2),
            percent(row["moved_relative"], digits=0),
            percent(row["attention_base"]),
            percent(row["attention_extra"]),
            points(row["change_without_extra"]),
            points(row["change_without_base"]),
            str(row["min_sufficient_tokens"]),
            str(row["extra_state"]),
        )
        for row in _records(table)
    ]
    columns = (
        *heads(shown),
        "query rank",
        "query cosine",
        "output rank",
        "output cosine",
        "moved %",
        "attention to base %",
        "attention to extra %",
        "without extra",
        "without base",
        "first that do",
        "extra_state",
    )
    note = (
        "rank: effective rank (exp of the entropy of the singular values), of the learned queries and of what leaves the "
        "Q-Former for one clip; cosine: mean over pairs; moved: from the start, in percent of how far the base queries went; "
        "attention: of the answer's positions; without: points lost or won on a sample of the items when those tokens go "
        "(extra) or are the same for every clip (base), nothing trained anew; first that do: so many of the first extra "
        f"tokens keep that sample within {points(margin, sign=False)} points, as measured, uncertainty aside. "
        + " ".join(_in_words(row, shown) for row in _records(table))
    )
    optional = ("query cosine", "output cosine", "without base", "attention to base %", "moved %", "query rank")
    return Table("What the extra tokens hold", columns, tuple(rows), note, optional=optional)


def _in_words(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    count = int(row[AXES[0].name])
    what = f"{count} extra token{'s' * (count != 1)} ({', '.join([*named(row, shown)[1:], str(row['extra_init'])])})"
    mended = remedy(row["extra_state"], row["extra_init"], row["extra_lr"])
    like = "" if pd.isna(row["output_rank"]) else f" behave like {number(row['output_rank'])}"
    if row["extra_state"] == "frozen":
        return f"{what} are frozen: they stay where they began. {mended}"
    if row["extra_state"] == "copies":
        return f"{what} are copies of one another{' and' * bool(like)}{like}: {mended}"
    return f"{what}{like}." if like and count > 1 else ""


def cost_table(table: pd.DataFrame, text_tokens: int, advice: str) -> Table | None:
    """A row a condition: what it costs and whether it is worth it."""
    if table.empty:
        return None
    shown = shown_axes(table)
    rows = []
    for row in _records(table):
        fronts = [word for word, name in (("tokens", "pareto_by_tokens"), ("time", "pareto_by_time")) if row[name]]
        text_alone = row["prefill_gflops"] - row["prefill_gflops_added"]
        rows.append(
            (
                *levels_of(row, shown),
                number(row["visual_tokens"]),
                number(row["prefill_gflops"]),
                number(100 * row["prefill_gflops_added"] / text_alone),
                number(row["cache_mb"]),
                number(row["step_seconds"], 3),
                number(row["item_milliseconds"], 1),
                number(row["peak_memory_mb"]),
                percent(row["accuracy"]),
                ", ".join(fronts),
                str(row["equivalent_to_best"]),
            )
        )
    columns = (
        *heads(shown),
        "visual tokens",
        "prefill GFLOPs",
        "more %",
        "KV cache MB",
        "step s",
        "item ms",
        "memory MB",
        "accuracy %",
        "front",
        "as good",
    )
    note = (
        f"prefill and KV cache (bf16): {table['language_model'].iloc[0]} reading {text_tokens} tokens of text and the visual "
        "ones, by formula (--at names another model), more: than the text alone; step, item and memory: measured here; "
        "front: nothing with as few visual tokens, or as little training time, scores higher, uncertainty aside; as good: "
        "beside the highest accuracy, surely within the margin of it (equivalent) or undecided, empty where surely worse. "
        + advice
    )
    return Table(
        "Cost",
        columns,
        tuple(rows),
        note,
        optional=("memory MB", "item ms", "more %", "step s", "KV cache MB", "prefill GFLOPs"),
    )


def task_table(table: pd.DataFrame, base: Mapping[str, float], lost: Mapping[str, int]) -> Table:
    """A row a task, a column a condition: accuracy averaged over the seeds. `base`: what the untouched base scored; `lost`: how
    many items of a task are left out."""
    shown = shown_axes(table)
    labels = pd.Series(["/".join(levels_of(row, shown)) for row in _records(table)], table.index)
    order = list(dict.fromkeys(labels))
    grouped = table.assign(label=labels).groupby("task", sort=False)
    rows = []
    for task, group in grouped:
        means = group.groupby("label")["accuracy"].mean()
        untouched = [percent(base.get(str(task)))] if base else []
        rows.append(
            (
                str(task),
                _of_all(int(group["n_items"].iloc[0]), lost.get(str(task), 0)),
                percent(group["chance"].iloc[0]),
                percent(group["blind_accuracy"].mean()),
                *untouched,
                *(percent(means.get(label)) for label in order),
            )
        )
    blank = ("",) * (len(order) + 2 + bool(base))
    rows += [(task, _of_all(0, count), *blank) for task, count in lost.items() if task not in grouped.groups]
    note = "accuracy %, mean of the seeds; columns are " + "/".join(heads(shown))
    fewest = int(grouped["n_items"].first().min())
    note += (
        f"; the standard error of one task's accuracy is up to {points(0.5 / fewest**0.5, sign=False)} points at n = {fewest}, "
    )
    note += "more where its items share clips"
    if lost:
        note += (
            f"; {sum(lost.values())} items of {len(lost)} tasks are left out (below), so that averages over items are of "
            "other tasks' shares than the whole benchmark's"
        )
    if base:
        note += "; base is the pretrained model with its own bridge, which every cell makes anew"
    columns = ("task", "n", "chance", "blind", *(["base"] if base else []), *order)
    return Table("Tasks", columns, tuple(rows), note, left=1, optional=("n", "chance"))


def _of_all(used: int, lost: int) -> str:
    return f"{used} of {used + lost}" if lost else str(used)


MVBENCH_ITEMS = 200 * len(MEDIA_ROOTS)
"""Questions of MVBench, 200 of each task."""


def published_table(table: pd.DataFrame) -> Table | None:
    """The averages that were published for MVBench, where its 20 tasks and no others were asked; where of other items than its
    4,000, called not comparable. None elsewhere."""
    if set(table["task"]) != set(MEDIA_ROOTS):
        return None
    rows = tuple((name, percent(value / 100)) for name, value in PUBLISHED.items())
    items = int(table.drop_duplicates("task")["n_items"].sum())
    title, note = "Published on MVBench", ""
    if items != MVBENCH_ITEMS:
        title += f": not comparable with {items:,} of {MVBENCH_ITEMS:,} items"
        note = (
            f"not comparable: {items:,} items were scored here, {MVBENCH_ITEMS:,} there (--items, or items that are left out); "
        )
    note += (
        "over all items of MVBench's 20 tasks, generated answers by the original's own check (generate and upstream of "
        "--scorers), 16 frames; other training than here, and other questions where a set only has MVBench's format"
    )
    return Table(title, ("model", "average %"), rows, note, left=1)


def compared(row: Mapping[str, Any]) -> str:
    """What a contrast compares, in words."""
    axis = f"{NAMES[row['axis']]} {told(row['axis'], row['level'])} - {told(row['axis'], row['baseline'])}"
    if row["kind"] != INTERACTION:
        return axis
    other = f"{NAMES[row['other_axis']]} {told(row['other_axis'], row['other_level'])}"
    return f"({axis}) at {other} - at {told(row['other_axis'], row['other_baseline'])}"


def where(row: Mapping[str, Any]) -> str:
    """At which levels of the other axes."""
    parts = [part.partition("=")[::2] for part in str(row["fixed_levels"]).split("; ") if part]
    kept = [(axis, level) for axis, level in parts if (axis, level) not in RIGHT.items()]  # rules kept go without saying
    return ", ".join(f"{'mean of ' if row['kind'] == MAIN else ''}{NAMES[axis]} {level}" for axis, level in kept)


_INTERVAL = "95\N{NO-BREAK SPACE}% interval"


def _interval(row: Mapping[str, Any]) -> str:
    """Empty where nothing is compared, `too few` where it would say nothing."""
    if _too_few(row):
        return TOO_FEW
    return "" if pd.isna(row["ci_low"]) else f"{points(row['ci_low'])} to {points(row['ci_high'])}"


def _too_few(row: Mapping[str, Any]) -> bool:
    """Whether clips and seeds are too few for an interval that says something."""
    if pd.isna(row["stderr"]):
        return not pd.isna(row["difference"])
    return not pd.isna(row["ci_low"]) and says_nothing((row["ci_high"] - row["ci_low"]) / 2)


def _verdict(row: Mapping[str, Any]) -> str:
    """Empty where there is no difference to judge, `too few` where all items are of one clip."""
    return str(row["verdict"]) or ("" if pd.isna(row["difference"]) else TOO_FEW)


NO_SEED = "no common seed"


def _to_decide(row: Mapping[str, Any], tasks: int) -> str:
    """What would bring a verdict where there is none."""
    if pd.isna(row["difference"]):
        return NO_SEED
    if not row["verdict"]:
        return "more clips"
    if row["verdict"] != UNDECIDED:
        return ""
    seeds = f"seeds {int(row['seeds_needed'])}" if not pd.isna(row["seeds_needed"]) else ""
    items = _items(int(row["items_needed"]), tasks) if not pd.isna(row["items_needed"]) else ""
    return " or ".join(filter(None, (seeds, items))) or ("more of both" if row["seeds"] > 1 else "2 seeds or more")


def _deciding(said: Sequence[str], margin: str) -> str:
    """What stands under `to decide`, as far as anything does."""
    if not any(said):
        return ""
    seeds = ", seeds as a number of --seeds" * any("seeds " in text for text in said)
    items = ", items in all and as --items, which counts those of one task (as far as the benchmark has them)"
    return f"; to decide: what would make {margin} points detectable{seeds}{items * any('--items' in text for text in said)}"


def _items(items: int, tasks: int) -> str:
    """A number of items, and as the option that asks for them; the number of tasks is 0 where it is not known."""
    return f"items {items}" + (f" (--items {math.ceil(items / tasks)}{' a task' * (tasks > 1)})" if tasks else "")


def _detectable(value: Any) -> str:
    return "" if pd.isna(value) else TOO_FEW if says_nothing(value) else points(value, sign=False)


def _when_too_few(texts: Iterable[str]) -> str:
    """What `too few` means, where it stands in a table."""
    said = any(TOO_FEW in text for text in texts)
    return f"; {TOO_FEW}: clips or seeds for an interval of less than ±{points(WIDEST, sign=False)} points" if said else ""


def _probability(value: Any) -> str:
    return "" if pd.isna(value) else f"{float(value):.1e}" if float(value) < 0.0005 else f"{float(value):.3f}"


def contrast_table(table: pd.DataFrame) -> Table | None:
    """What the data support: a row a contrast over all items."""
    tasks = len(set(table["task"]) - {ALL})
    table = table[table["task"] == ALL]
    if table.empty:
        return None
    rows = [
        (
            compared(row),
            where(row),
            points(row["difference"]),
            _interval(row),
            _probability(row["p_holm"]),
            _verdict(row),
            "" if row["verdict"] == NOT_COMPARABLE else _detectable(row["mde"]),
            _to_decide(row, tasks),
        )
        for row in _records(table)
    ]
    margin = points(table["margin"].iloc[0], sign=False)
    known = table[table["difference"].notna()] if table["difference"].notna().any() else table
    seeds, items, clips = (sorted({int(n) for n in known[name]}) for name in ("seeds", "n_items", "n_clusters"))
    note = (
        f"paired by item and seed over {_range(items, 'item')} of {_range(clips, 'clip')} and {_range(seeds, 'seed')}; "
        "intervals by clips and seeds; p adjusted (Holm) over the contrasts of an axis of one kind, or over the interactions; "
        f"equivalent: surely within ±{margin} points (--margin); detectable: the true difference found in 80 % of all "
        f"repetitions{_deciding([row[-1] for row in rows], margin)}" + _when_too_few(text for row in rows for text in row)
    )
    if (table["uncertainty"] == ITEMS_ONLY).any():
        note += ". ONE SEED: the intervals hold item uncertainty only, what another seed would change is not in them"
    note += ".\nIn words: " + " ".join(in_words(table))
    columns = ("comparison", "where", "points", _INTERVAL, "p", "verdict", "mde", "to decide")
    return Table("What the data support", columns, tuple(rows), note, left=2, optional=("to decide", "mde", "p"))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _range(numbers: Sequence[int], noun: str) -> str:
    return _many(numbers[0], noun) if len(numbers) == 1 else f"{numbers[0]} to {_many(numbers[-1], noun)}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def in_words(table: pd.DataFrame) -> list[str]:
    """A sentence for each comparison: averaged over the other axes where that was done, and every interaction."""
    out = []
    for row in _records(table[table["task"] == ALL]):
        averaged = ((table["kind"] == MAIN) & (table["axis"] == row["axis"])).any()
        if row["kind"] not in (INTERACTION, MAIN if averaged else SIMPLE):
            continue
        place = f", {where(row)}" if where(row) else ""
        if not row["verdict"]:
            out.append(f"{compared(row)}{place}: no verdict, {'all items are of one clip' if _verdict(row) else NO_SEED}.")
            continue
        one = ", one seed" if row["uncertainty"] == ITEMS_ONLY else ""
        span = f"{points(row['difference'])} points ({_interval(row)}{' for an interval' * _too_few(row)}{place}{one})"
        seen = "no difference" if says_nothing(row["mde"]) else f"{points(row['mde'], sign=False)} points"
        says = {
            BETTER: f"{compared(row)}: more, {span}.",
            WORSE: f"{compared(row)}: less, {span}.",
            EQUIVALENT: f"{compared(row)}: the same within {points(row['margin'], sign=False)} points, {span}.",
            UNDECIDED: f"{compared(row)}: undecided, {span}; {seen} could have been seen.",
            NOT_COMPARABLE: f"{compared(row)}{place}: not comparable, the two had more than 1 % more or less of the budget.",
        }
        out.append(says[row["verdict"]])
    return out


def task_contrast_table(table: pd.DataFrame) -> Table | None:
    """A row a task, a column a contrast of the first axis: averaged over the other axes where they vary."""
    first = table[(table["axis"] == AXES[0].name) & (table["kind"] != INTERACTION) & (table["task"] != ALL)]
    kind = MAIN if (first["kind"] == MAIN).any() else SIMPLE
    shown = first[first["kind"] == kind]
    if shown.empty:
        return None
    names = list(dict.fromkeys(shown["level"]))
    rows = []
    for task, group in shown.groupby("task", sort=False):
        cells = []
        for level in names:
            [one] = _records(group[group["level"] == level])[:1]
            half = "" if _too_few(one) else points((one["ci_high"] - one["ci_low"]) / 2, sign=False)
            mark = {BETTER: "*", WORSE: "*", EQUIVALENT: "="}.get(str(one["verdict"]), "")
            if one["verdict"] == NOT_COMPARABLE:
                cells.append(NOT_COMPARABLE)
                continue
            shift = points(one["difference"])
            cells.append(f"{shift} ±{half}{mark or ' '}" if half else f"{shift} ({TOO_FEW})" if shift else NO_SEED)
        rows.append((str(task), str(int(group["n_items"].iloc[0])), *cells))
    first_row = _records(shown)[0]
    baseline = first_row["baseline"]
    note = (
        f"points against {baseline} extra tokens{', ' + where(first_row) if where(first_row) else ''}; ± is half of the 95 % "
        f"interval; * differs after Holm's adjustment over {_many(len(rows), 'task')}, = equivalent"
        + _when_too_few(text for row in rows for text in row)
    )
    if (shown["uncertainty"] == ITEMS_ONLY).any():
        note += "; ONE SEED: what another seed would change is not in the intervals"
    columns = ("task", "n", *(f"{level} - {baseline}" for level in names))
    return Table("A task at a time", columns, tuple(rows), note, left=1, optional=("n",))


def comparison_table(found: Comparison) -> Table:
    """The second folder minus the first, a row a condition that both have finished."""
    shown, records = shown_axes(found.table), _records(found.table)
    several = found.table["effective_batch_size"].nunique() > 1
    rows = tuple(
        (
            *((str(row["effective_batch_size"]),) if several else ()),
            *levels_of(row, shown),
            percent(row["accuracy_first"]),
            percent(row["accuracy_second"]),
            points(row["difference"]),
            "" if found.same_results else _interval(row),
            _probability(row["p_holm"]),
            _verdict(row),
            f"{row['seeds_first']} and {row['seeds_second']}",
        )
        for row in records
    )
    columns = (
        *(("batch",) if several else ()),
        *heads(shown),
        "first %",
        "second %",
        "points",
        _INTERVAL,
        "p",
        "verdict",
        "seeds",
    )
    optional = ("seeds", "p")
    if found.same_results:
        whose = f"{found.first} and {found.second}" if found.first != found.second else f"{found.first} beside itself"
        note = "the same cells with the same answers: nothing differs in what they are made of, nor in one answer"
        return Table(f"{whose}: the same results", columns, rows, note, optional=optional)
    title = f"{found.first} (first) and {found.second} (second): second minus first"
    return Table(title, columns, rows, "; ".join(_compared_how(found, records, rows)), optional=optional)


def _compared_how(found: Comparison, records: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> list[str]:
    """What has to be known to read a comparison of two folders."""
    notes = ["points: second minus first, so that better means that the second is"]
    if not found.same_items:
        notes.append("not the same items: two independent means")
    elif all(row["paired"] for row in records):
        notes.append("paired by item and seed")
    else:
        notes.append("two independent means where no seed is common, else paired by item and seed")
    if any(row["paired"] and {row["seeds_first"], row["seeds_second"]} != {row["seeds"]} for row in records):
        notes.append("points are those of the seeds that both have")
    margin = points(records[0]["margin"], sign=False)
    notes.append(
        f"p adjusted (Holm) over the rows; equivalent: surely within ±{margin} points (--margin)"
        + _when_too_few(text for row in rows for text in row)
    )
    if any(row["verdict"] == IDENTICAL for row in records):
        notes.append("identical: the same items are correct at every seed; other items may still tell them apart")
    if any(row["uncertainty"] == ITEMS_ONLY for row in records):
        notes.append("ONE SEED: the intervals hold item uncertainty only")
    differs = f"what differs (first -> second): {'; '.join(found.differing)}"
    notes.append(differs if found.differing else "nothing differs in what they are made of")
    if found.budgets[0] != found.budgets[1]:
        notes.append(f"not comparable: the first holds {found.budgets[0]} a cell, the second {found.budgets[1]}")
    if any(found.only):
        notes.append(f"not compared: {found.only[0]} conditions of the first alone and {found.only[1]} of the second")
    return notes


def batch_split_table(pairs: Sequence[Pair], cells: pd.DataFrame) -> Table | None:
    """Cells that must coincide because only the split of their batch differs. `cells`: all of the sweep."""
    if not pairs:
        return None
    shown = [axis for axis in shown_axes(cells) if axis not in SPLIT]
    rows = tuple(
        (
            *levels_of(p.levels, shown),
            str(int(p.levels["effective_batch_size"])),
            str(p.seed),
            f"{p.split[0]} and {p.split[1]}",
            str(p.steps),
            f"{p.early_difference:.1e}",
            f"{p.loss_difference:.1e}",
            f"{p.answers_differing} of {p.answers}",
            str(p.near_ties),
            "dropout" if p.dropout else "yes" if p.passed else "drifts" if p.drifted else "NO",
        )
        for p in pairs
    )
    columns = (
        *heads(shown),
        "batch",
        "seed",
        "accum",
        "steps",
        "first steps",
        "all steps",
        "answers differ",
        "near-ties",
        "coincide",
    )
    note = (
        f"one effective batch split in two ways must give one run: relative loss difference at most {LOSS_TOLERANCE:g} at "
        f"every step, and answers that differ only where the two best options are within {NEAR_TIE:g} nats"
    )
    if any(p.dropout for p in pairs):
        note += "; dropout: the model draws random masks in training, which depend on the split, so this cannot be checked"
    judged = [p for p in pairs if not p.dropout]
    if any(p.drifted for p in judged):
        note += (
            f"; drifts: one run over the first {100 * EARLY:g} % of the steps, so that the arithmetic is one, and apart later: "
            "rounding grows where training is unstable, as at too high a learning rate"
        )
    coincide = sum(p.passed for p in judged)
    note += f". Coincide: {coincide} of {len(judged)} pairs" * bool(judged)
    note += "." if coincide == len(judged) else f", {sum(p.drifted for p in judged)} drift."
    return Table("Equal effective batches", columns, rows, note, optional=("near-ties", "steps", "batch"))


def made_by(cells: pd.DataFrame) -> list[str]:
    """Versions and machine of every finished cell, as far as they are recorded."""
    done = cells[(cells["status"] == "ok") & (cells["software"] != "")]
    return [f"{row['software']}; on {row['host']}" for row in _records(done)]


def software_table(cells: pd.DataFrame) -> Table | None:
    """Which versions and machines made how many cells, where they are not all the same."""
    counts = Counter(made_by(cells))
    if len(counts) < 2:
        return None
    rows = tuple((str(number), *one.split("; on ")) for one, number in counts.most_common())
    note = (
        "the cells were not made by one set of packages on one kind of machine: numbers round differently there, so that a "
        "difference between two of these cells is not their condition's alone"
    )
    return Table("Made by", ("cells", "packages", "machine"), rows, note, left=3)


def failure_table(table: pd.DataFrame) -> Table | None:
    """Cells that failed or whose files are damaged, with one line on each."""
    failed = table[table["status"].isin(["failed", DAMAGED])]
    if failed.empty:
        return None
    shown = shown_axes(table)
    rows = tuple(
        (str(row["key"]), *levels_of(row, shown), str(row["seed"]), str(row["status"]), str(row["error"]))
        for row in _records(failed)
    )
    note = "in no table above; the same sweep command runs them again; the traceback of a failed one is in its record.json"
    return Table("Failed or damaged cells", ("key", *heads(shown), "seed", "status", "error"), rows, note, left=1)


def left_out_table(problems: Sequence[dict[str, str]], examples: int = 3) -> Table | None:
    """What was left out of the data: counted by kind, with examples by name."""
    if not problems:
        return None
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem["kind"], []).append(f"{problem['subject']}: {problem['detail']}")
    rows = tuple((kind, str(len(found)), "\n".join(found[:examples])) for kind, found in kinds.items())
    of = [problem.get("of", "item") for problem in problems]
    where_from = [
        f"{count} {what}"
        for count, what in (
            (of.count("item"), "of the items, from every score above"),
            (of.count("sample"), "of the samples, from training"),
        )
        if count
    ]
    note = f"left out: {' and '.join(where_from)}; at most {examples} of a kind are shown, all are named in sweep.json"
    if kinds.keys() & set(RETRYABLE):
        note += f"; {' and '.join(kind for kind in RETRYABLE if kind in kinds)}: tried again after `qtablate cache --retry`"
    return Table("Left out", ("kind", "count", "examples"), rows, note, left=3)
