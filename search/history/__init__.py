"""Optuna's side of a study: what samplers, importances and the dashboard read."""
