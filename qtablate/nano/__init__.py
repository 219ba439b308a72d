"""nano, the embedded default model: how it is pretrained, and its files (assets)."""
