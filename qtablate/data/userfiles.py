"""JSON and YAML files that a user wrote: UTF-8 with or without a byte order mark, and every mistake named with its file."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qtablate.errors import BadMedia, DataError


class DuplicateKeyDict(dict[str, Any]):
    """A JSON object in which a key stands more than once. As a dict it has the last value of each, as any JSON reader has."""

    def __init__(self, pairs: Collection[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        values: dict[str, list[Any]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        self.repeated = {key: found for key, found in values.items() if len(found) > 1}
        """Every value of the keys that stand more than once."""


def read_json(path: Path, named: str = "", expected: str = "a JSON file") -> Any:
    """The file's content; objects with repeated keys are `DuplicateKeyDict`. `named`: what stands in front of a message;
    `expected`: what should be there.

    Raises DataError for a file that is missing, is no plain file, is not UTF-8, not JSON, or nested too deep to be read.
    """
    text = _text(path, named, "JSON", expected)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise DataError(f"{named}{path} is not JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise DataError(f"{named}{path} is not JSON: {error}") from None


def read_yaml(path: Path, named: str = "", expected: str = "a YAML file") -> Any:
    """As `read_json`, of YAML's plain data; a repeated key is a DataError, too."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    text = _text(path, named, "YAML", expected)
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise DataError(f"{named}{path} is not YAML that can be read: it is nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{named}{path} is not YAML: {error}") from None


def validate_no_conflict(kind: str, entry: Any, read: Collection[str]) -> None:
    """Raises BadMedia of this kind where one of the keys that are `read` stands twice in an entry with other values: which
    one is meant cannot be told."""
    for key, values in getattr(entry, "repeated", {}).items():
        if key in read and any(value != values[0] for value in values):
            said = ", then ".join(f"{value!r:.40}" for value in values[:3])
            raise BadMedia(kind, f"'{key}' is given {len(values)} times: {said}")


def duplicate_keys(*entries: Any) -> list[str]:
    """The keys that stand more than once in an entry, in the order in which they are met."""
    return list(dict.fromkeys(key for entry in entries for key in getattr(entry, "repeated", ())))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else DuplicateKeyDict(pairs)


def _text(path: Path, named: str, language: str, expected: str) -> str:
    try:
        if path.is_dir():
            raise DataError(f"{named}{path} is a folder; expected {expected}")
        if path.exists() and not path.is_file():  # to read a pipe may never end
            raise DataError(f"{named}{path} is no plain file; expected {expected}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{named}no file {path}; expected {expected}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{named}{path} is not {language}: it is not UTF-8 text ({error}); save it as UTF-8") from None
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        raise DataError(f"{named}{path} cannot be read: {error}") from None
