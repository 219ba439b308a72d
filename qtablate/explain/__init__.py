"""The topic pages that `qtablate explain` shows: the Markdown files of this package, and one generated from the configuration.

A new page is one Markdown file here and its name in TOPICS. Its first line is the title, its first paragraph the one line that
the list of topics shows.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib import resources

from qtablate.config import default_text, fields
from qtablate.errors import ConfigError
from qtablate.setting import Option

SETTINGS = "settings"
"""The generated page."""
TOPICS = (
    "concepts",
    "columns",
    "formats",
    "models",
    "statistics",
    "accumulation",
    "audit",
    "world",
    "machines",
    SETTINGS,
    "faq",
)
"""Names of all pages, in the order of the list."""
SECTIONS = {
    "grid": "the axes and how their levels are combined",
    "train": "what is trained, the same in every condition",
    "eval": "how every trained cell is scored",
    "data": "the model, the benchmark and the training data",
    "run": "where and how cells run; nothing here changes a result",
}
"""What each section of the configuration holds."""


def page(topic: str) -> str:
    """Return a page as Markdown.

    Raises:
        ConfigError: there is no such topic; the message names the closest one and all known ones.
    """
    if topic not in TOPICS:
        close = get_close_matches(topic.lower(), TOPICS, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(f"unknown topic '{topic}'; {hint}known: {', '.join(TOPICS)}")
    if topic == SETTINGS:
        return _settings_page()
    return resources.files(__name__).joinpath(f"{topic}.md").read_text(encoding="utf-8")


def summary(topic: str) -> str:
    """Return the one line that describes a page: its first paragraph."""
    return page(topic).split("\n\n")[1].replace("\n", " ")


def list_of_topics() -> str:
    """Return the list of all pages as Markdown."""
    lines = [f"| `{name}` | {summary(name)} |" for name in TOPICS]
    return "\n".join(
        ["# Topics", "", "`qtablate explain TOPIC` shows a page.", "", "| topic | page |", "|---|---|", *lines, ""]
    )


def _settings_page() -> str:
    settings = fields()
    parts = [
        "# Settings",
        "Every setting: its option, its name in YAML and Python, its default and its meaning.",
        "Options belong to `qtablate sweep`. In a YAML file (`--config FILE.yaml`) and in Python (`qtablate.SweepConfig`), "
        "settings are grouped by section, and their names are fields: `--lr 0.001` is `train: {learning_rate: 0.001}`. An "
        "option on the command line wins over the file. `--save-config FILE.yaml` writes such a file.",
    ]
    for section, description in SECTIONS.items():
        rows = [(name, option) for (part, name), option in settings.items() if part == section]
        parts += [f"## {section}: {description}", "\n".join(_table(section, rows))]
    parts.append(
        "`conditions` (section `grid`, in YAML and Python alone) lists conditions one by one instead of crossing levels: see "
        "`qtablate explain formats`."
    )
    return "\n\n".join(parts) + "\n"


def _table(section: str, rows: Iterable[tuple[str, Option]]) -> Iterator[str]:
    yield "| option, field | default | meaning |"
    yield "|---|---|---|"
    for name, option in rows:
        names = ", ".join(f"`{one}`" for one in (option.flag, option.negative, name) if one)
        default = default_text(section, name).replace(",", ", ")  # a comma list breaks at its blanks
        yield f"| {names} | {default} | {option.help.replace('|', chr(92) + '|')} |"
