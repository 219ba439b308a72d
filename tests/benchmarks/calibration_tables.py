"""Tables of calibration.py for readers, in percent and points."""

import math
from collections.abc import Callable, Iterator, Sequence

import pandas as pd
from interval_rules import NEW, OLD, RULES
from report_power import FOR_POWER

SHARE, POINTS, NUMBER = "share", "points", "number"
TARGET = 0.93
"""Coverage that no design should be below."""


def described(coverage: pd.DataFrame, power: pd.DataFrame, compare: pd.DataFrame, selection: pd.DataFrame, runs: int) -> str:
    """Return the whole document.

    Args:
        coverage: a row per design and rule.
        power: a row per design.
        compare: a row per pair of folders and rule.
        selection: a row per number of seeds.
        runs: grids of each design.
    """
    errors = [100 * (share * (1 - share) / runs) ** 0.5 for share in (0.95, 0.8, 0.05)]
    return f"""# Do the report's intervals, verdicts and required seeds hold what they promise?

`python tests/benchmarks/calibration.py --runs {runs}`: {runs} simulated grids a row. A share of 95 % has a standard error
of {errors[0]:.1f} points, one of 80 % {errors[1]:.1f}, one of 5 % {errors[2]:.1f}. Shares are in percent, widths and
differences in points.

Designs are named by the standard deviation between seeds, in points; 3 seeds, 2,000 items in clips of 1 to 12, and 3
numbers of tokens x 2 accumulations unless the name says otherwise. The README's are the accuracies and standard deviations
of results/reference/nano-world. Answers go through the code of the report (contrast_frame of qtablate/report/effects.py).
"Old" is the former rule: the variance between seeds pooled over all conditions, and p-values adjusted by axis and kind.

## Coverage and errors, old / new

- coverage: how often the 95 % interval of a contrast holds the true difference: the lowest of all contrasts of the design,
  their mean, the mean of restless contrasts (true variance between seeds more than 1.2 times what the pooled one foretells)
  and of quiet ones (less than .8 times). The lowest of 12 shares lies below their mean by chance, too.
- width: median width of the interval.
- family: share of reports, of grids without effects, in which any primary contrast, and any contrast at all, is better or
  worse. The README's design has its own effects; counted is what is false.
- at the margin: share of reports in which any contrast is falsely equivalent, and in which anything is false, where every
  level is 2 points (the margin) from its baseline and there are no interactions.

{table(both(coverage), OLD_AND_NEW)}
Contrasts below {100 * TARGET:.0f} % with the new rule, the lowest of each design:

{lowest_contrasts(coverage)}

## Other rules

The same grids. `own seeds`: the variance of each difference between its own seeds. `Welch`: the sum of the variances of its
conditions. `wider`: the larger of pooled and own, with the degrees of freedom of that one. `moderated`: each contrast's
shrunk to what they have in common (Smyth 2004). All of these with Satterthwaite's degrees of freedom; `raised`: with those
of the new rule; `new, no raise`: the new rule with Satterthwaite's. Clips and families as in the new rule.

Over all designs with three seeds or more:

{table(by_rule(coverage[coverage["seeds"] > 2]), BY_RULE)}
With two seeds:

{table(by_rule(coverage[coverage["seeds"] == 2]), BY_RULE)}
Lowest coverage by design, and below it the share of reports without effects in which any primary contrast is better or worse:

{pivoted(coverage, "coverage_lowest")}
{pivoted(coverage, "family_primary")}
## Power and required seeds of the new rule

- mde: the smallest difference that the report calls detectable for the contrast of the most tokens, at the level that
  Holm's adjustment leaves it (median of {FOR_POWER} grids without effects); power: share of grids with this true difference
  that find it, after the adjustment. 80 % are promised. The same for a single test at .05.
- asked: share of the reports that are undecided and say how many seeds would find the margin.
- seeds: that number as it follows from the true variances, with the contrast's own variance between seeds, and with the
  larger of that and what the pooled one foretells, as the report has it; and the 10, 50 and 90 % quantiles of what reports
  say. More than 100 are "inf".
- range: how often the range that a report gives (80 % promised) holds the number by the true variances.

{table(power, OF_POWER)}
## Selection

By how much the accuracy of the condition of the highest accuracy is too high, with its standard error, and how often it is
the true best; the README's design.

{table(selection, OF_SELECTION)}
## Two folders, old / new

`report A B` on two folders of six conditions each that do not differ: share of reports in which any condition is better or
worse, and mean coverage. Paired: the same seeds and items; otherwise other ones. Shared: standard deviation of what a seed
does to all conditions of a folder, in points.

{table(both(compare), OF_COMPARE)}"""


Columns = Sequence[tuple[str, str, str]]
"""Column of the frame, its heading, and how it is shown."""

OLD_AND_NEW: Columns = (
    ("design", "design", ""),
    ("coverage_lowest", "lowest coverage", SHARE),
    ("coverage_mean", "mean", SHARE),
    ("coverage_restless", "restless", SHARE),
    ("coverage_quiet", "quiet", SHARE),
    ("width", "width", POINTS),
    ("family_primary", "family, primary", SHARE),
    ("family_any", "any", SHARE),
    ("margin_equivalent", "at the margin: equivalent", SHARE),
    ("margin_any_false", "any false", SHARE),
)
BY_RULE: Columns = (
    ("rule", "rule", ""),
    ("lowest", "lowest coverage of all", SHARE),
    ("below", f"designs below {100 * TARGET:.0f} %", NUMBER),
    ("mean_lowest", "lowest mean coverage", SHARE),
    ("mean_highest", "highest", SHARE),
    ("width", "width, relative to new", "ratio"),
    ("family_primary", "largest family error, primary", SHARE),
    ("family_any", "any", SHARE),
    ("margin_any_false", "any false at the margin", SHARE),
)
OF_POWER: Columns = (
    ("design", "design", ""),
    ("mde", "mde", POINTS),
    ("power", "power", SHARE),
    ("mde_alone", "mde at .05", POINTS),
    ("power_alone", "power", SHARE),
    ("undecided", "asked", SHARE),
    ("needed_own", "seeds, own", NUMBER),
    ("needed_larger", "larger", NUMBER),
    ("needed_10", "10 %", NUMBER),
    ("needed_50", "50 %", NUMBER),
    ("needed_90", "90 %", NUMBER),
    ("range_has_own", "range has own", SHARE),
    ("range_has_larger", "larger", SHARE),
)
OF_SELECTION: Columns = (
    ("seeds", "seeds", NUMBER),
    ("excess", "too high by", "fine points"),
    ("excess_se", "standard error", "fine points"),
    ("is_true_best", "true best", SHARE),
)
OF_COMPARE: Columns = (
    ("design", "design", ""),
    ("shared_sd", "shared", POINTS),
    ("paired", "paired", ""),
    ("family_error", "family", SHARE),
    ("coverage_mean", "mean coverage", SHARE),
    ("width", "width", POINTS),
)
_FORMATS: dict[str, Callable[[float], str]] = {
    SHARE: lambda value: f"{100 * value:.1f}",
    POINTS: lambda value: f"{100 * value:.1f}",
    "fine points": lambda value: f"{100 * value:.2f}",
    "ratio": lambda value: f"{value:.2f}",
    NUMBER: lambda value: f"{value:.0f}",
}


def table(frame: pd.DataFrame, columns: Columns) -> str:
    """Format columns of a frame as a table; a column `NAME old` beside `NAME` makes cells of two values."""
    lines = [[heading for _, heading, _ in columns], ["---" if not form else "---:" for _, _, form in columns]]
    for _, row in frame.iterrows():
        cells = []
        for name, _, form in columns:
            values = [row[each] for each in (f"{name} old", name) if each in frame.columns]
            shown = [_FORMATS[form](value) if form else str(value) for value in values if not form or not math.isnan(value)]
            cells.append(" / ".join(dict.fromkeys(shown) if name == "shared_sd" else shown))
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def both(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the new rule's rows with the old one's figures beside them."""
    new, old = (frame[frame["rule"] == rule].reset_index(drop=True) for rule in (NEW, OLD))
    figures = old.select_dtypes("float").drop(columns="shared_sd", errors="ignore")
    return new.join(figures.add_suffix(" old"))


def by_rule(coverage: pd.DataFrame) -> pd.DataFrame:
    """Return a row per rule: the worst of all designs."""
    width_of_new = coverage[coverage["rule"] == NEW].set_index("design")["width"]
    rows = []
    for rule in (NEW, *RULES):
        of_rule = coverage[coverage["rule"] == rule].set_index("design")
        rows.append(
            {
                "rule": rule,
                "lowest": of_rule["coverage_lowest"].min(),
                "below": (of_rule["coverage_lowest"] < TARGET).sum(),
                "mean_lowest": of_rule["coverage_mean"].min(),
                "mean_highest": of_rule["coverage_mean"].max(),
                "width": (of_rule["width"] / width_of_new).median(),
                **{name: of_rule[name].max() for name in ("family_primary", "family_any", "margin_any_false")},
            }
        )
    return pd.DataFrame(rows)


def pivoted(coverage: pd.DataFrame, column: str) -> str:
    """Format one column as a table of designs by rules."""
    wide = coverage.pivot(index="design", columns="rule", values=column).loc[coverage["design"].unique()].reset_index()
    return table(wide, [("design", "design", ""), *((rule, rule, SHARE) for rule in (NEW, *RULES))])


def lowest_contrasts(coverage: pd.DataFrame) -> str:
    """List the contrast of the lowest coverage of every design whose lowest is below the target."""
    return "\n".join(_lowest(coverage[coverage["rule"] == NEW])) or "None."


def _lowest(rows: pd.DataFrame) -> Iterator[str]:
    for _, row in rows[rows["coverage_lowest"] < TARGET].iterrows():
        yield f"- {row['design']}: {row['lowest_of']} ({100 * row['coverage_lowest']:.1f} %)"
