"""The cost of visual tokens in a language model of the user's size: FLOPs of the prefill and size of the KV cache."""

import json
from dataclasses import dataclass
from pathlib import Path

from qtablate.errors import QtablateError

BYTES = 2
"""Bytes of a number in the KV cache (bf16)."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """The shape of a decoder-only language model with gated feed-forward layers."""

    name: str
    layers: int
    width: int
    heads: int
    key_value_heads: int
    inner: int
    """Width of the feed-forward layers."""
    head_width: int

    @property
    def weights(self) -> int:
        """Number of weights of the linear layers that every token passes."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    def prefill_flops(self, tokens: int) -> float:
        """Return the FLOPs of reading this many tokens at once.

        Two per weight and token, and attention over all pairs, as PyTorch's FlopCounterMode counts them: nothing saved for
        causality, no vocabulary.
        """
        return 2.0 * self.weights * tokens + 4.0 * self.layers * self.heads * self.head_width * tokens**2

    def cache_bytes(self, tokens: int) -> int:
        """Return the size of the keys and values of every layer, in bytes."""
        return 2 * self.layers * self.key_value_heads * self.head_width * BYTES * tokens


DECODERS = {
    "7b": Decoder("Vicuna-7B", 32, 4096, 32, 32, 11008, 128),
    "13b": Decoder("Vicuna-13B", 40, 5120, 40, 40, 13824, 128),
    "mistral-7b": Decoder("Mistral-7B", 32, 4096, 32, 8, 14336, 128),
    "phi-3-mini": Decoder("Phi-3-mini", 32, 3072, 32, 32, 8192, 96),
}
"""The language models of VideoChat2's variants, from their published config.json."""


def read_decoder(name: str) -> Decoder:
    """Return one of DECODERS, or the language model that a config.json describes.

    Args:
        name: a key of DECODERS, a config.json, or a directory that holds one.

    Raises:
        QtablateError: none of these.
    """
    if name in DECODERS:
        return DECODERS[name]
    path = Path(name) / "config.json" if Path(name).is_dir() else Path(name)
    try:
        config = json.loads(path.read_text())
        config = config.get("text_config") or config
        heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Decoder(
            path.parent.name if path.name == "config.json" else path.stem,
            int(config["num_hidden_layers"]),
            width,
            heads,
            int(config.get("num_key_value_heads") or heads),
            int(config["intermediate_size"]),
            int(config.get("head_dim") or width // heads),
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        known = ", ".join(DECODERS)
        raise QtablateError(f"--cost-model {name}: neither one of {known} nor a language model's config.json ({why})") from None
