"""qtablate: which visual-query budget and which gradient accumulation should a video language model be trained with?"""

__version__ = "0.1.0"
