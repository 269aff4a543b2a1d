"""Plotly figures, for the page and for the dashboard's cards."""
