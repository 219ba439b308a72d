"""Checks of the texts in data files."""

import unicodedata
from collections.abc import Sequence

from qtablate.errors import BadMedia
from qtablate.prompts.mvbench import LETTERS

LONG_TEXT = 2_000
"""Characters: about 500 tokens. Questions are hardly ever longer, and training texts are truncated near it (max_txt_len)."""


def validate_encodable(kind: str, field: str, text: str) -> None:
    """Raise BadMedia of this kind for a text that cannot be encoded as UTF-8.

    JSON can hold unpaired surrogates, such as "\\ud800"; tokenizers and files fail on them.

    Args:
        field: what the message calls the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = f"\\u{ord(text[error.start]):04x}"
        raise BadMedia(kind, f"{field} holds {surrogate}, an unpaired surrogate and no character, at {error.start}") from None


def validate_no_reserved_strings(field: str, text: str, reserved_strings: Sequence[str]) -> None:
    """Raise BadMedia for a text that contains a marker of the model's conversations (prompts.types.Format.reserved_strings).

    It would be unclear where turns begin, and so which tokens are supervised or scored.
    """
    for marker in reserved_strings:
        if marker in text:
            raise BadMedia("unusable text", f"{field} holds {marker!r}, which marks turns in this model's conversations")


def validate_option_count(options: Sequence[str]) -> None:
    """Raise BadMedia for no candidates, or more than there are letters.

    This holds for every scorer, so that all of them score the same items and can be compared.
    """
    if not options:
        raise BadMedia("malformed item", "no candidates")
    if len(options) > len(LETTERS):
        raise BadMedia("malformed item", f"{len(options)} candidates; at most {len(LETTERS)} can be listed by letter")


def control_characters(text: str) -> list[str]:
    """Return the control characters in a text, each once; tabs and line ends are not counted."""
    return [char for char in dict.fromkeys(text) if unicodedata.category(char) == "Cc" and char not in "\t\n\r"]


def escape_unprintable(text: str) -> str:
    """Replace characters that a terminal would interpret or not show by escapes: names from files may hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
