"""Show a validation report as tables, one sentence, or CSV."""

import csv
import io
import math
from collections.abc import Sequence

from qtablate.data.texts import escape_unprintable
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.table import TOO_FEW, Table, number, p_text, percent, with_error
from qtablate.validate.check import ValidationReport
from qtablate.validate.findings import SEVERITIES, Finding
from qtablate.validate.summaries import SourceSummary, TaskSummary

_MAX_LENGTH = 160  # characters of a finding in a terminal; the CSV file has all of them


def report_tables(report: ValidationReport, examples: int = 3) -> list[Table]:
    """Return the summaries of tasks or sources, then the findings with up to `examples` of each kind."""
    tables = (_task_table(report.tasks), _source_table(report.sources), _finding_table(report.findings, examples))
    return [table for table in tables if table]


def summary(report: ValidationReport) -> str:
    """Return the numbers of findings, usable entries and clips in one line."""
    counts = [_count(report.count(severity), severity) for severity in SEVERITIES]
    method = "decoded"
    if not report.decoded:
        lengths = f", and the length of {_count(report.unknown_length, 'video')}," if report.unknown_length else ""
        method = f"only headers were read (--headers-only): broken or lost frames or images{lengths} remain undetected"
    usable, clips = f"{report.usable} of {report.entries} entries are usable", _count(report.clips, "clip")
    return f"{', '.join(counts)}. {usable}; {clips}, {method}."


def as_csv(report: ValidationReport) -> str:
    """Return CSV with one row per finding: kind, severity, subject, detail."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("kind", "severity", "subject", "detail"))
    for finding in report.findings:
        subject, detail = escape_unprintable(finding.subject), escape_unprintable(finding.detail)
        rows.writerow((finding.kind, finding.severity, subject, detail))
    return text.getvalue()


_TASK_NOTE = (
    "chance: mean of 1 / candidates; text bias: accuracy of always choosing the candidate that is most often gold among the "
    "task's other items (evenly spread answers fall below chance), ± the standard error of its excess over chance, clustered "
    f"by clip ({TOO_FEW}: fewer than {MIN_CLIPS} clips); gold at: how often the gold answer is the first / second / ... "
    "candidate, p of that if all positions were equally likely (chi-square); sorted: neighbors with one gold answer or "
    "position, 0 as in a random order, 1 one block each."
)


def _task_table(tasks: Sequence[TaskSummary]) -> Table | None:
    """Return one row per task of a benchmark."""
    if not tasks:
        return None
    rows = []
    for task in tasks:
        scores = [order.score for order in (task.text_order, task.position_order) if order]
        bias = task.text_bias
        rows.append(
            (
                escape_unprintable(task.task),
                str(task.entries),
                str(task.usable),
                str(task.clips),
                "" if task.candidates is None else "-".join(map(str, dict.fromkeys(task.candidates))),
                percent(task.chance),
                with_error(bias.accuracy, bias.stderr, task.clips) if bias else "",
                "/".join(map(str, task.positions)),
                p_text(task.positions_p),
                number(max(scores, default=math.nan), 2),
            )
        )
    columns = ("task", "items", "usable", "clips", "candidates", "chance %", "text bias %", "gold at", "p", "sorted")
    return Table("Tasks", columns, tuple(rows), _TASK_NOTE, left=1, optional=("clips", "candidates", "p", "sorted"))


def _source_table(sources: Sequence[SourceSummary]) -> Table | None:
    """Return one row per source of a training file."""
    if not sources:
        return None
    rows = tuple(
        (
            escape_unprintable(source.source),
            source.medium,
            str(source.samples),
            str(source.clips),
            f"{source.pairs.min} / {source.pairs.median:g} / {source.pairs.max}",
            str(source.without_question),
            str(source.empty_answers),
        )
        for source in sources
    )
    columns = ("source", "medium", "samples", "clips", "pairs", "no question", "empty answers")
    note = (
        "source: the first folder in the clips' names; usable samples only; pairs: questions and answers per sample, minimum / "
        "median / maximum; no question: samples without any, such as captions."
    )
    return Table("Samples", columns, rows, note, left=2, optional=("clips",))


def _finding_table(findings: Sequence[Finding], examples: int) -> Table | None:
    """Return one row per kind of finding, with examples and advice."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    rows = []
    for kind, group in groups.items():
        lines = [_shorten(f"{finding.subject}: {finding.detail}") for finding in group[:examples]]
        lines += [f"... {len(group) - examples} more"] * (len(group) > examples)
        rows.append((f"{kind}\n{_count(len(group), group[0].severity)}", "\n".join([*lines, f"-> {group[0].advice}"])))
    if not rows:
        return None
    note = "->: what to do; error: entries that are left out, or scores that would be wrong; all findings: --csv FILE"
    return Table("Findings", ("kind", "examples"), tuple(rows), note, left=2, tall=True)


def _shorten(text: str) -> str:
    text = escape_unprintable(text)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
