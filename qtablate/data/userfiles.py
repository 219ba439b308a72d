"""Read JSON and YAML files that a user wrote: UTF-8 with or without a byte order mark, with the file named in every error."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qtablate.errors import BadMedia, DataError

DUPLICATE_KEY = "duplicate key"
"""Kind of problem: a key that occurs more than once in an entry."""


class DuplicateKeyDict(dict[str, Any]):
    """A JSON object in which a key occurs more than once. As a dict it has the last value of each, as with any JSON reader."""

    def __init__(self, pairs: Collection[tuple[str, Any]]) -> None:
        """Collect the values of each key."""
        super().__init__(pairs)
        values: dict[str, list[Any]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        self.duplicates = {key: occurrences for key, occurrences in values.items() if len(occurrences) > 1}
        """All values of the keys that occur more than once, in their order."""


def read_json(path: Path, option: str = "", expected: str = "a JSON file") -> Any:
    """Return the file's content; objects with repeated keys are `DuplicateKeyDict`.

    Args:
        option: prefix of error messages, such as "--train: ".
        expected: what the file should be, for error messages.

    Raises:
        DataError: the file is missing, not a regular file, not UTF-8, not JSON, or nested too deeply.
    """
    text = _read_text(path, option, "JSON", expected)
    try:
        return json.loads(text, object_pairs_hook=_to_dict)
    except RecursionError:
        raise DataError(f"{option}{path} is not readable JSON: it is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{option}{path} is not JSON: {error}") from None


def read_yaml(path: Path, option: str = "", expected: str = "a YAML file") -> Any:
    """Return the content of a file of plain YAML data. Arguments and errors as `read_json`; a repeated key is an error."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    text = _read_text(path, option, "YAML", expected)
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise DataError(f"{option}{path} is not readable YAML: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{option}{path} is not YAML: {error}") from None


def validate_no_conflict(kind: str, entry: Any, keys: Collection[str]) -> None:
    """Raise BadMedia of this kind where one of `keys` occurs twice in an entry with different values."""
    for key, values in getattr(entry, "duplicates", {}).items():
        if key in keys and any(value != values[0] for value in values):
            listed = ", then ".join(f"{value!r:.40}" for value in values[:3])
            raise BadMedia(kind, f"'{key}' is given {len(values)} times: {listed}")


def duplicate_keys(*entries: Any) -> list[str]:
    """Return the keys that occur more than once within an entry, in order of occurrence."""
    return list(dict.fromkeys(key for entry in entries for key in getattr(entry, "duplicates", ())))


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object: a plain dict where no key is repeated."""
    out = dict(pairs)
    return out if len(out) == len(pairs) else DuplicateKeyDict(pairs)


def _read_text(path: Path, option: str, language: str, expected: str) -> str:
    """Read a regular file as UTF-8. Raises DataError."""
    try:
        if path.is_dir():
            raise DataError(f"{option}{path} is a folder; expected {expected}")
        if path.exists() and not path.is_file():  # reading a pipe may never end
            raise DataError(f"{option}{path} is not a regular file; expected {expected}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{option}no file {path}; expected {expected}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{option}{path} is not {language}: it is not UTF-8 text ({error}); save it as UTF-8") from None
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        raise DataError(f"{option}{path} cannot be read: {error}") from None
