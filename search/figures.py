"""Plotly figures of a study, for the report."""
