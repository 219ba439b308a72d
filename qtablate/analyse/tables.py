"""Frames -> sheets: what each table of the report shows and what its note says. A new table is one function."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from qtablate.analyse.compare import Comparison
from qtablate.analyse.contrasts import (
    ALL,
    BETTER,
    EQUIVALENT,
    INTERACTION,
    MAIN,
    NOT_COMPARABLE,
    RIGHT,
    SIMPLE,
    UNDECIDED,
    WORSE,
)
from qtablate.analyse.frames import CONTROLS
from qtablate.analyse.gate import EARLY, LOSS_TOLERANCE, NEAR_TIE, Pair
from qtablate.analyse.levels import NAMES, heads, levels_of, named, shown_axes
from qtablate.analyse.sheet import Sheet, number, percent, points
from qtablate.axes import AXES, SPLIT, told
from qtablate.bench.patience import UNSETTLED
from qtablate.bench.protocol import MEDIA_ROOTS, PUBLISHED, SCORERS
from qtablate.store import DAMAGED


def summary_sheet(table: pd.DataFrame, held: str) -> Sheet:
    """The main table: a row a condition. `held`: the budget in words."""
    shown = shown_axes(table)
    columns = [
        *heads(shown),
        "batch", "steps", "loss", "accuracy %", "seed sd", "blind %", "visual gain", "temporal gain", "train s", "seeds",
    ]  # fmt: skip
    rows = []
    for row in _records(table):
        seeds = f"{row['seeds_done']}" + ("" if row["seeds_done"] == row["seeds_wanted"] else f"/{row['seeds_wanted']}")
        rows.append((
            *levels_of(row, shown), number(row["effective_batch_size"]), number(row["steps"]),
            number(row["train_loss"], 3), percent(row["accuracy"], row["accuracy_item_stderr"]),
            percent(row["accuracy_seed_sd"]), percent(row["blind_accuracy"]),
            percent(row["visual_gain"], row["visual_gain_item_stderr"]),
            percent(row["temporal_gain"], row["temporal_gain_item_stderr"]), number(row["train_seconds"]), seeds,
        ))  # fmt: skip
    done = table[table["seeds_done"] > 0]
    note = "no cell has finished"
    if len(done):
        first = done.iloc[0]
        note = (
            f"accuracy over {int(first['n_items'])} items of {int(first['n_media'])} clips, mean of the seeds; ± is the "
            f"standard error over items, clustered by clip; seed sd is the spread between seeds; chance is "
            f"{percent(first['chance'])}; visual gain = accuracy - blind, temporal gain = accuracy - that on shuffled frames. "
            f"Held: {held}."
        )
        if (done["accuracy_macro"] - done["accuracy"]).abs().max() >= 0.0005:
            macro = ", ".join(percent(value) for value in done["accuracy_macro"])
            note += f" Mean over tasks rather than items, row by row: {macro}."
    narrow = ("train s", "loss", "seeds", "batch", "temporal gain", "steps")
    optional = tuple(name for name in narrow if name in columns)
    return Sheet("Conditions", tuple(columns), tuple(rows), note, optional=optional)


def control_sheet(table: pd.DataFrame) -> Sheet | None:
    """A row a condition: its accuracy with less and less to see."""
    done = table[table["seeds_done"] > 0]
    ran = [control for control in CONTROLS if done[f"{control}_accuracy"].notna().any()]
    if len(ran) < 2:  # blind stands in the main table
        return None
    shown = shown_axes(table)
    rows = [
        (*levels_of(row, shown), percent(row["accuracy"]),
         *(percent(row[f"{control}_accuracy"]) for control in ran),
         *(number(row[name], 1) for name in ("eval_seconds", "control_seconds")))
        for row in _records(done)
    ]  # fmt: skip
    says = {
        "blind": "a clip of the mean color", "middle": "the middle frame throughout", "shuffled": "frames in another order",
        "reversed": "the clip backwards", "other": "another item's clip",
    }  # fmt: skip
    note = "accuracy % of the same items shown " + ", ".join(f"{says[name]} ({name})" for name in ran)
    note += "; mean of the seeds. Seconds: scoring a cell as it is, and under all controls."
    columns = (*heads(shown), "accuracy %", *ran, "eval s", "controls s")
    return Sheet("Controls", columns, tuple(rows), note, optional=("eval s", "controls s"))


def choice_sheet(table: pd.DataFrame) -> Sheet | None:
    """A row a condition: its answers read in several ways."""
    if table.empty:
        return None
    shown = shown_axes(table)
    ran = [how for how in (*SCORERS, "upstream") if table[how].notna().any()]
    pairs = [name for name in table.columns if str(name).endswith("_agree") and table[name].notna().any()]
    shares = [name for name in ("unparsed", "upstream_differs") if table[name].notna().any()]
    rows = [
        (*levels_of(row, shown), *(percent(row[how]) for how in ran),
         *(percent(row[name]) for name in (*shares, *pairs)))
        for row in _records(table)
    ]  # fmt: skip
    agreeing = [name.removesuffix("_agree").replace("_", "=") for name in pairs]
    columns = (*heads(shown), *ran, *(name.replace("upstream_differs", "differs") for name in shares), *agreeing)
    says = {
        "likelihood": "of each option's text", "letter": "of its letter behind 'Best option:('",
        "generate": "a greedy answer read strictly", "circular": "by letter, right in every rotation of the options",
        "upstream": "the same answer by the original's own check, which an empty one passes",
    }  # fmt: skip
    note = "accuracy % by " + "; ".join(f"{how}: {says[how]}" for how in ran) + " (standard errors: choices.csv)"
    if shares:
        note += "; unparsed: generated answers that name no option, counted as wrong; differs: strict and upstream disagree"
    note += "; =: items on which two ways choose the same." if pairs else "."
    said = [row for row in _records(table) if isinstance(row["letters_said"], str)]
    if said:
        each = ", ".join(f"{'/'.join(levels_of(row, shown))}: {row['letters_said']}" for row in said)
        note += f" Letters chosen, %: {each}; gold: {said[0]['letters_gold']}."
    narrow = tuple(name for name in (*agreeing, "differs", "unparsed") if name in columns)
    return Sheet("Ways of reading an answer", columns, tuple(rows), note, optional=narrow)


def held_sheet(table: pd.DataFrame, margin: float) -> Sheet | None:
    """A row a condition with extra tokens: how alike they are and what they are worth."""
    if table.empty:
        return None
    shown = shown_axes(table)
    rows = [
        (*levels_of(row, shown), number(row["query_rank"], 1), number(row["query_cosine"], 2),
         number(row["output_rank"], 1), number(row["output_cosine"], 2), percent(row["moved_relative"], digits=0),
         percent(row["attention_base"]), percent(row["attention_extra"]), points(row["change_without_extra"]),
         points(row["change_without_base"]), str(row["first_that_do"]), str(row["named"]))
        for row in _records(table)
    ]  # fmt: skip
    columns = (
        *heads(shown), "query rank", "query cosine", "output rank", "output cosine", "moved %",
        "attention to base %", "attention to extra %", "without extra", "without base", "first that do", "named",
    )  # fmt: skip
    note = (
        "rank: effective rank (exp of the entropy of the singular values), of the learned queries and of what leaves the "
        "Q-Former for one clip; cosine: mean over pairs; moved: from the start, in percent of how far the base queries went; "
        "attention: of the answer's positions; without: points lost or won on a sample of the items when those tokens go "
        "(extra) or are the same for every clip (base), nothing trained anew; first that do: so many of the first extra "
        f"tokens keep that sample within {points(margin, sign=False)} points. "
        + " ".join(_in_words(row, shown) for row in _records(table))
    )
    optional = ("query cosine", "output cosine", "without base", "attention to base %", "moved %", "query rank")
    return Sheet("What the extra tokens hold", columns, tuple(rows), note, optional=optional)


def _in_words(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    what = f"{row[AXES[0].name]} extra tokens ({', '.join([*named(row, shown)[1:], str(row['extra_init'])])})"
    if row["named"] == "frozen":
        return f"{what} are frozen: they stay where they began."
    if row["named"] == "copies":
        return f"{what} are copies of one another and behave like {number(row['output_rank'])}; --extra-init normal mends that."
    return f"{what} behave like {number(row['output_rank'])}."


def cost_sheet(table: pd.DataFrame, text_tokens: int, advice: str) -> Sheet | None:
    """A row a condition: what it costs and whether it is worth it."""
    if table.empty:
        return None
    shown = shown_axes(table)
    rows = []
    for row in _records(table):
        fronts = [word for word, name in (("tokens", "cheapest_by_tokens"), ("time", "cheapest_by_time")) if row[name]]
        text_alone = row["prefill_gflops"] - row["prefill_gflops_added"]
        rows.append((
            *levels_of(row, shown), number(row["visual_tokens"]), number(row["prefill_gflops"]),
            number(100 * row["prefill_gflops_added"] / text_alone), number(row["cache_mb"]),
            number(row["step_seconds"], 3), number(row["item_milliseconds"], 1), number(row["peak_memory_mb"]),
            percent(row["accuracy"]), ", ".join(fronts), str(row["as_good_as_best"]),
        ))  # fmt: skip
    columns = (
        *heads(shown), "visual tokens", "prefill GFLOPs", "more %", "KV cache MB", "step s", "item ms",
        "memory MB", "accuracy %", "front", "as good",
    )  # fmt: skip
    note = (
        f"prefill and KV cache (bf16): {table['language_model'].iloc[0]} reading {text_tokens} tokens of text and the visual "
        "ones, by formula (--at names another model), more: than the text alone; step, item and memory: measured here; "
        "front: nothing with as few visual tokens, or as little training time, scores higher. " + advice
    )
    return Sheet("Cost", columns, tuple(rows), note, optional=("memory MB", "item ms", "more %", "step s"))


def task_sheet(table: pd.DataFrame, base: Mapping[str, float], lost: Mapping[str, int]) -> Sheet:
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
        rows.append((
            str(task), _of_all(int(group["n_items"].iloc[0]), lost.get(str(task), 0)), percent(group["chance"].iloc[0]),
            percent(group["blind_accuracy"].mean()), *untouched, *(percent(means.get(label)) for label in order),
        ))  # fmt: skip
    blank = ("",) * (len(order) + 2 + bool(base))
    rows += [(task, _of_all(0, count), *blank) for task, count in lost.items() if task not in grouped.groups]
    note = "accuracy %, mean of the seeds; columns are " + "/".join(heads(shown))
    if lost:
        note += (
            f"; {sum(lost.values())} items of {len(lost)} tasks are left out (below), so that averages over items are of "
            "other tasks' shares than the whole benchmark's"
        )
    if base:
        note += "; base is the pretrained model with its own bridge, which every cell makes anew"
    columns = ("task", "n", "chance", "blind", *(["base"] if base else []), *order)
    return Sheet("Tasks", columns, tuple(rows), note, left=1, optional=("n", "chance"))


def _of_all(used: int, lost: int) -> str:
    return f"{used} of {used + lost}" if lost else str(used)


def published_sheet(table: pd.DataFrame) -> Sheet | None:
    """The averages that were published for MVBench's 20 tasks, where these are what was asked."""
    if set(table["task"]) < set(MEDIA_ROOTS) or not set(table["task"]) & set(MEDIA_ROOTS):
        return None
    rows = tuple((name, percent(value / 100)) for name, value in PUBLISHED.items())
    note = (
        "over items of all 20 tasks, generated answers by the original's own check (generate and upstream of --scorers), "
        "16 frames; other training than here"
    )
    return Sheet("Published on MVBench", ("model", "average %"), rows, note, left=1)


def compared(row: Mapping[str, Any]) -> str:
    """What a contrast compares, in words."""
    axis = f"{NAMES[row['axis']]} {told(row['axis'], row['level'])} - {told(row['axis'], row['baseline'])}"
    if row["kind"] != INTERACTION:
        return axis
    other = f"{NAMES[row['other_axis']]} {told(row['other_axis'], row['other_level'])}"
    return f"({axis}) at {other} - at {told(row['other_axis'], row['other_baseline'])}"


def where(row: Mapping[str, Any]) -> str:
    """At which levels of the other axes."""
    parts = [part.partition("=")[::2] for part in str(row["at"]).split("; ") if part]
    kept = [(axis, level) for axis, level in parts if (axis, level) not in RIGHT.items()]  # rules kept go without saying
    return ", ".join(f"{'mean of ' if row['kind'] == MAIN else ''}{NAMES[axis]} {level}" for axis, level in kept)


_INTERVAL = "95\N{NO-BREAK SPACE}% interval"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if pd.isna(row["low"]) else f"{points(row['low'])} to {points(row['high'])}"


def _probability(value: Any) -> str:
    return "" if pd.isna(value) else f"{float(value):.1e}" if float(value) < 0.0005 else f"{float(value):.3f}"


def contrast_sheet(table: pd.DataFrame) -> Sheet | None:
    """What the data support: a row a contrast over all items."""
    table = table[table["task"] == ALL]
    if table.empty:
        return None
    rows = []
    for row in _records(table):
        decide = [
            f"{word} {int(row[name])}" for word, name in (("seeds", "seeds_to_decide"), ("items", "items_to_decide"))
            if not pd.isna(row[name])
        ]  # fmt: skip
        undecided = row["verdict"] == UNDECIDED
        rows.append((
            compared(row), where(row), points(row["difference"]),
            _interval(row), _probability(row["p_holm"]),
            str(row["verdict"]), points(row["detectable"], sign=False),
            (" or ".join(decide) or ("more of both" if row["seeds"] > 1 else "2 seeds or more")) if undecided else "",
        ))  # fmt: skip
    margin = points(table["margin"].iloc[0], sign=False)
    seeds, items, clips = (sorted({int(n) for n in table[name]}) for name in ("seeds", "n_items", "n_media"))
    note = (
        f"paired by item and seed over {_range(items)} items of {_range(clips)} clips and {_range(seeds)} "
        f"seed{'s' * (seeds != [1])}; "
        "intervals by clips and seeds; p adjusted (Holm) over the contrasts of an axis of one kind, or over the interactions; "
        f"equivalent: surely within ±{margin} points (--margin); detectable: the true difference found in 80 % of all "
        f"repetitions; to decide: what would make {margin} points detectable"
    )
    if (table["uncertainty"] == "items only").any():
        note += ". ONE SEED: the intervals hold item uncertainty only, what another seed would change is not in them"
    note += ".\nIn words: " + " ".join(in_words(table))
    columns = ("comparison", "where", "points", _INTERVAL, "p", "verdict", "detectable", "to decide")
    return Sheet("What the data support", columns, tuple(rows), note, left=2, optional=("to decide", "detectable", "p"))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def in_words(table: pd.DataFrame) -> list[str]:
    """A sentence for each comparison: averaged over the other axes where that was done, and every interaction."""
    out = []
    for row in _records(table[table["task"] == ALL]):
        averaged = ((table["kind"] == MAIN) & (table["axis"] == row["axis"])).any()
        if row["kind"] not in (INTERACTION, MAIN if averaged else SIMPLE) or not row["verdict"]:
            continue
        place = f", {where(row)}" if where(row) else ""
        span = f"{points(row['difference'])} points ({_interval(row)}{place})"
        says = {
            BETTER: f"{compared(row)}: more, {span}.", WORSE: f"{compared(row)}: less, {span}.",
            EQUIVALENT: f"{compared(row)}: the same within {points(row['margin'], sign=False)} points, {span}.",
            UNDECIDED: f"{compared(row)}: undecided, {span}; "
                       f"{points(row['detectable'], sign=False)} points could have been seen.",
            NOT_COMPARABLE: f"{compared(row)}{place}: not comparable, the two had more than 1 % more or less of the budget.",
        }  # fmt: skip
        out.append(says[row["verdict"]])
    return out


def task_contrast_sheet(table: pd.DataFrame) -> Sheet | None:
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
            half = (one["high"] - one["low"]) / 2
            mark = {BETTER: "*", WORSE: "*", EQUIVALENT: "="}.get(str(one["verdict"]), "")
            if one["verdict"] == NOT_COMPARABLE:
                cells.append(NOT_COMPARABLE)
                continue
            cells.append("" if pd.isna(half) else f"{points(one['difference'])} ±{points(half, sign=False)}{mark or ' '}")
        rows.append((str(task), str(int(group["n_items"].iloc[0])), *cells))
    first_row = _records(shown)[0]
    baseline = first_row["baseline"]
    note = (
        f"points against {baseline} extra tokens{', ' + where(first_row) if kind == MAIN else ''}; ± is half of the 95 % "
        f"interval; * differs after Holm's adjustment over the {len(rows)} tasks, = equivalent"
    )
    columns = ("task", "n", *(f"{level} - {baseline}" for level in names))
    return Sheet("A task at a time", columns, tuple(rows), note, left=1, optional=("n",))


def comparison_sheet(found: Comparison) -> Sheet:
    """The second folder minus the first, a row a condition that both have finished."""
    shown = shown_axes(found.table)
    rows = [
        (*levels_of(row, shown), percent(row["accuracy_first"]), percent(row["accuracy_second"]),
         points(row["difference"]), _interval(row), _probability(row["p_holm"]), str(row["verdict"]),
         f"{row['seeds_first']} and {row['seeds_second']}")
        for row in _records(found.table)
    ]  # fmt: skip
    first = _records(found.table)[0]
    margin = points(first["margin"], sign=False)
    if found.table["effective_batch_size"].nunique() > 1:
        rows = [(str(row["effective_batch_size"]), *one) for row, one in zip(_records(found.table), rows, strict=True)]
    notes = [
        "paired item by item" if first["paired"] else "not the same items: two independent means",
        f"p adjusted (Holm) over the rows; equivalent: surely within ±{margin} points (--margin)",
        f"what differs: {'; '.join(found.differing)}" if found.differing else "nothing differs in what they are made of",
    ]
    if found.budgets[0] != found.budgets[1]:
        notes.append(f"not comparable: the first holds {found.budgets[0]} a cell, the second {found.budgets[1]}")
    if any(found.only):
        notes.append(f"not compared: {found.only[0]} conditions of the first alone and {found.only[1]} of the second")
    columns = (*heads(shown), "first %", "second %", "points", _INTERVAL, "p", "verdict", "seeds")
    if found.table["effective_batch_size"].nunique() > 1:
        columns = ("batch", *columns)
    title = f"{found.second} against {found.first}"
    return Sheet(title, columns, tuple(rows), "; ".join(notes), optional=("seeds", "p"))


def gate_sheet(pairs: Sequence[Pair], cells: pd.DataFrame) -> Sheet | None:
    """Cells that must coincide because only the split of their batch differs. `cells`: all of the sweep."""
    if not pairs:
        return None
    shown = [axis for axis in shown_axes(cells) if axis not in SPLIT]
    rows = tuple(
        (*levels_of(p.levels, shown), str(int(p.levels["effective_batch_size"])), str(p.seed), f"{p.split[0]} and {p.split[1]}",
         str(p.steps), f"{p.early_difference:.1e}", f"{p.loss_difference:.1e}", f"{p.answers_differing} of {p.answers}",
         str(p.near_ties), "dropout" if p.dropout else "yes" if p.passed else "drifts" if p.drifted else "NO")
        for p in pairs
    )  # fmt: skip
    columns = (
        *heads(shown), "batch", "seed", "accum", "steps", "first steps", "all steps", "answers differ", "near-ties", "coincide",
    )  # fmt: skip
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
    note += f". Coincide: {coincide} of {len(judged)} pairs" + (
        "." if coincide == len(judged) else f", {sum(p.drifted for p in judged)} drift."
    )
    return Sheet("Equal effective batches", columns, rows, note, optional=("near-ties", "steps", "batch"))


def made_by(cells: pd.DataFrame) -> list[str]:
    """Versions and machine of every finished cell, as far as they are recorded."""
    done = cells[(cells["status"] == "ok") & (cells["software"] != "")]
    return [f"{row['software']}; on {row['host']}" for row in _records(done)]


def software_sheet(cells: pd.DataFrame) -> Sheet | None:
    """Which versions and machines made how many cells, where they are not all the same."""
    counts = Counter(made_by(cells))
    if len(counts) < 2:
        return None
    rows = tuple((str(number), *one.split("; on ")) for one, number in counts.most_common())
    note = (
        "the cells were not made by one set of packages on one kind of machine: numbers round differently there, so that a "
        "difference between two of these cells is not their condition's alone"
    )
    return Sheet("Made by", ("cells", "packages", "machine"), rows, note, left=3)


def failure_sheet(table: pd.DataFrame) -> Sheet | None:
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
    return Sheet("Failed or damaged cells", ("key", *heads(shown), "seed", "status", "error"), rows, note, left=1)


def problem_sheet(problems: Sequence[dict[str, str]], examples: int = 3) -> Sheet | None:
    """What was left out of the data: counted by kind, with examples by name."""
    if not problems:
        return None
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem["kind"], []).append(f"{problem['subject']}: {problem['detail']}")
    rows = tuple((kind, str(len(found)), "\n".join(found[:examples])) for kind, found in kinds.items())
    note = f"left out of every score above; at most {examples} of a kind are shown, all are named in sweep.json"
    if kinds.keys() & set(UNSETTLED):
        note += f"; {' and '.join(kind for kind in UNSETTLED if kind in kinds)}: tried again after `qtablate cache --retry`"
    return Sheet("Left out", ("kind", "count", "examples"), rows, note, left=3)
