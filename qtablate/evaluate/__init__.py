"""Evaluation of a trained model: scores of multiple-choice items, controls, and what its visual tokens do."""
