"""What `doctor` found, as sheets and as a csv file."""

import csv
import io
import math
from collections.abc import Sequence

from qtablate.data.findings import SEVERITIES, Finding
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.table import TOO_FEW, Table, number, percent, with_error
from qtablate.validate.check import SourceSummary, TaskSummary, ValidationReport

_LONGEST = 160  # characters of a finding in a terminal; the csv file has all of them


def sheets(checkup: ValidationReport, examples: int = 3) -> list[Table]:
    """What the data are like, then what was found."""
    parts = (_task_sheet(checkup.tasks), _source_sheet(checkup.sources), _finding_sheet(checkup.findings, examples))
    return [sheet for sheet in parts if sheet]


def summary(checkup: ValidationReport) -> str:
    """One sentence."""
    counts = [_many(checkup.count(severity), severity) for severity in SEVERITIES]
    looked = "decoded"
    if not checkup.decoded:
        more = f", and the length of {_many(checkup.untold, 'video')}," if checkup.untold else ""
        looked = f"headers alone were read (--headers-only): frames or pictures that are broken or lost{more} stay unseen"
    usable, clips = f"{checkup.usable} of {checkup.entries} entries are usable", _many(checkup.clips, "clip")
    return f"{', '.join(counts)}. {usable}; {clips}, {looked}."


def as_csv(checkup: ValidationReport) -> str:
    """A row a finding: kind, severity, subject, detail."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("kind", "severity", "subject", "detail"))
    rows.writerows(
        (one.kind, one.severity, escape_unprintable(one.subject), escape_unprintable(one.detail)) for one in checkup.findings
    )
    return text.getvalue()


def _task_sheet(tasks: Sequence[TaskSummary]) -> Table | None:
    if not tasks:
        return None
    rows = []
    for task in tasks:
        orders = [order.share for order in (task.text_order, task.place_order) if order]
        candidates = "" if task.candidates is None else "-".join(str(one) for one in dict.fromkeys(task.candidates))
        prior = with_error(task.prior.accuracy, task.prior.stderr, task.clips) if task.prior else ""
        rows.append(
            (
                escape_unprintable(task.task),
                str(task.entries),
                str(task.usable),
                str(task.clips),
                candidates,
                percent(task.chance),
                prior,
                "/".join(map(str, task.positions)),
                _probability(task.positions_p),
                number(max(orders, default=math.nan), 2),
            )
        )
    columns = ("task", "items", "usable", "clips", "candidates", "chance %", "prior %", "gold at", "p", "sorted")
    note = (
        "chance: mean of 1 / candidates; prior: always answering with the candidate that is most often gold among the task's "
        "other items (answers that are spread evenly fall below chance), ± the standard error of what it is above chance, "
        f"clustered by clip ({TOO_FEW}: of fewer than {MIN_CLIPS} clips); gold at: how often the gold stands "
        "first / second / ..., p of that if all places were as likely (chi-square); sorted: neighbours of one gold text or "
        "place, 0 as in a random order, 1 one block each."
    )
    return Table("Tasks", columns, tuple(rows), note, left=1, optional=("clips", "candidates", "p", "sorted"))


def _source_sheet(sources: Sequence[SourceSummary]) -> Table | None:
    if not sources:
        return None
    rows = tuple(
        (
            escape_unprintable(one.source),
            one.medium,
            str(one.samples),
            str(one.clips),
            f"{one.pairs[0]} / {one.pairs[1]:g} / {one.pairs[2]}",
            str(one.unasked),
            str(one.empty),
        )
        for one in sources
    )
    columns = ("source", "medium", "samples", "clips", "pairs", "no question", "empty answers")
    note = (
        "source: the first folder in the clips' names; usable samples only; pairs: questions and answers of a sample, the "
        "fewest / median / most; no question: samples without any, as captions are."
    )
    return Table("Samples", columns, rows, note, left=2, optional=("clips",))


def _finding_sheet(findings: Sequence[Finding], examples: int) -> Table | None:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    rows = []
    for kind, found in kinds.items():
        lines = [_short(f"{one.subject}: {one.detail}") for one in found[:examples]]
        lines += [f"... {len(found) - examples} more"] * (len(found) > examples)
        rows.append((f"{kind}\n{_many(len(found), found[0].severity)}", "\n".join([*lines, f"-> {found[0].advice}"])))
    if not rows:
        return None
    note = "->: what to do; error: entries that are left out, or scores that would be wrong; all findings by name: --csv FILE"
    return Table("Findings", ("kind", "examples"), tuple(rows), note, left=2, tall=True)


def _short(text: str) -> str:
    text = escape_unprintable(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def escape_unprintable(text: str) -> str:
    """Names from files may hold anything: what a terminal would obey or not show stands as an escape."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _probability(p: float | None) -> str:
    return "" if p is None else f"{p:.0e}" if p < 0.0005 else f"{p:.3f}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
