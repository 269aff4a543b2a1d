"""Optuna Dashboard with our cards and note in front of it."""
