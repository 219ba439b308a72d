"""Texts of data files: what cannot be used at all, and what is odd in them."""

import unicodedata
from collections.abc import Sequence

from qtablate.errors import BadMedia
from qtablate.prompts.mvbench import LETTERS

LONG = 2_000
"""Characters: about 500 tokens. A question is hardly ever longer, and training texts are cut near there (max_txt_len)."""


def validate_encodable(kind: str, named: str, text: str) -> None:
    """Raises BadMedia of this kind for a text that UTF-8 cannot hold: half of a surrogate pair, such as "\\ud800" in JSON.
    Tokenizers and files end with an error at it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise BadMedia(kind, f"{named} holds {half}, half of a surrogate pair and no character, at {error.start}") from None


def validate_no_markers(named: str, text: str, markers: Sequence[str]) -> None:
    """Raises BadMedia for a text that holds a marker of the model's conversations (Format.reserved_strings): where turns begin,
    and so which tokens are supervised or scored, could not be told."""
    for marker in markers:
        if marker in text:
            raise BadMedia("unusable text", f"{named} holds {marker!r}, which marks turns in this model's conversations")


def validate_option_count(options: Sequence[str]) -> None:
    """Raises BadMedia for more candidates than there are letters, or none.

    Whatever the scorer: all of them are then asked of the same items, and their answers can be compared.
    """
    if not options:
        raise BadMedia("malformed item", "no candidates")
    if len(options) > len(LETTERS):
        raise BadMedia("malformed item", f"{len(options)} candidates; at most {len(LETTERS)} can be listed by letter")


def control_characters(text: str) -> list[str]:
    """The control characters in a text, each once; tabs and line ends are none."""
    return [one for one in dict.fromkeys(text) if unicodedata.category(one) == "Cc" and one not in "\t\n\r"]
