"""Figures drawn without a script: each mark lies where its number says."""

import re

import plotly.graph_objects as go
import pytest

from search.views.figures.look import band, finish, log_axis, plain, vertical
from search.views.notebook.drawing import drawing


def figure(**trace: object) -> go.Figure:
    """Return a figure over x from 0 to 10 and y from 0 to 1."""
    drawn = go.Figure(go.Scatter(**{"mode": "lines", "name": "curve", **trace}))
    x = {"title": {"text": "step"}, "range": [0, 10]}
    finish(drawn, x=x, y={"title": {"text": "score"}, "range": [0, 1]})
    return drawn


def paths(html: str) -> list[str]:
    return re.findall(r'<path d="([^"]*)" stroke="[^"]*" vector-effect', html)


def test_a_line_passes_through_its_points_and_breaks_where_there_is_none() -> None:
    html = drawing(figure(x=[0, 5, 10, 10, 10], y=[0, 0.5, None, 0.25, 1], line={"width": 2}))
    assert paths(html) == ["M0.0 1000.0L500.0 500.0M1000.0 750.0L1000.0 0.0"]


def test_an_exploded_loss_stays_a_coordinate_that_browsers_draw() -> None:
    (path,) = paths(drawing(figure(x=[0, 10], y=[0.5, 1e30])))
    assert path == "M0.0 500.0L1000.0 -2000.0"


def test_markers_intervals_bands_and_lines_lie_at_their_values() -> None:
    drawn = figure(
        x=[2.5],
        y=[0.5],
        mode="markers",
        marker={"size": 8, "color": "red"},
        error_x={"type": "data", "array": [1.5], "thickness": 2},
    )
    band(drawn, (2.0, 4.0), "bracket", color="green")
    vertical(drawn, 7.5, "edge", color="blue", dash="dot")
    html = drawing(drawn)
    assert paths(html) == ["M250.0 500.0h0"]
    assert '<line x1="10.00%" y1="50.00%" x2="40.00%" y2="50.00%" stroke="red"' in html
    assert '<rect x="20.00%" width="20.00%" y="0" height="100%" fill="green"' in html
    assert '<line x1="75.00%" y1="100.00%" x2="75.00%" y2="0.00%" stroke="blue"' in html
    assert re.findall(r"</svg>(\w+)</span>", html) == ["curve", "bracket", "edge"]


def test_a_logarithmic_axis_places_powers_of_ten_evenly() -> None:
    drawn = figure(x=[0.01, 0.1, 1.0], y=[0, 0, 0])
    axis = log_axis([0.01, 1.0], "rate")
    axis["range"] = [-2, 0]
    finish(drawn, x=axis, y={"range": [0, 1]})
    html = drawing(drawn)
    assert paths(html) == ["M0.0 1000.0L500.0 1000.0L1000.0 1000.0"]
    ticks = dict(re.findall(r"left:([\d.]+)%;[^>]*>([\d.]+)</span>", html))
    assert (ticks["0.00"], ticks["50.00"], ticks["100.00"]) == ("0.01", "0.1", "1")


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0, 1e-9], [-5e6, 5e6]])
def test_an_axis_without_a_range_holds_its_values_and_has_ticks(values: list[float]) -> None:
    drawn = go.Figure(go.Scatter(x=values, y=[0, 1], mode="markers", marker={"size": 3}))
    finish(drawn, x={"title": {"text": "x"}}, y={"title": {"text": "y"}})
    html = drawing(drawn)
    (path,) = paths(html)
    assert all(0 <= float(x) <= 1000 for x in re.findall(r"M([-\d.]+) ", path))
    assert 3 <= len(re.findall(r"left:[\d.]+%", html)) <= 12


def test_text_of_unknown_origin_stays_text() -> None:
    drawn = figure(x=[0, 1], y=[0, 1])
    drawn.update_layout(xaxis={"title": {"text": plain("<script>alert(1)</script> & more")}})
    html = drawing(drawn)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
