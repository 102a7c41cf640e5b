"""Widgets of all panels: styled for contrast and the keyboard, and named for screen readers."""

import re
from pathlib import Path

from bokeh.models import Button, ColumnDataSource, Div, Row, Spinner
from bokeh.themes import Theme
from jinja2 import Environment, FileSystemLoader

from stellarhml.plotting._style import PLAIN_TEXT, plain_symbol

FOLDER = Path(__file__).parent
SHEET = (FOLDER / "widgets.css").read_text(encoding="utf-8")
PANELS = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("panels.html").module

# distinct with any colour vision, and dark enough on white
MODEL, OBSERVED, RESIDUAL, CHOSEN, QUIET, INK = "#C04F00", "#444444", "#0072B2", "#8E3B76", "#767676", "#1a1a1a"
SERIES = (RESIDUAL, MODEL, "#007A57", CHOSEN, "#7A6200", OBSERVED)
THEME = Theme(filename=str(FOLDER / "theme.json"))


def watch(model, attribute, function):
    """Call a function with the new value of an attribute."""
    model.on_change(attribute, lambda attr, old, new: function(new))


def title_of(name):
    """Name of a label with its unit, as Bokeh shows it."""
    return _literal(PLAIN_TEXT.get(name, name))


def symbol_of(name):
    """Name of a label without its unit, as Bokeh shows it."""
    return _literal(plain_symbol(name))


def _literal(text):
    """Text in which Bokeh finds no formula, which it would set as HTML: an invisible character splits its marks."""
    return re.sub(r"\$(?=\$)|\\(?=[\[(])", lambda mark: mark.group() + "\u2060", text)


def button(label, name, act, *, width=90, aria_label=None, **look):
    """Make a button; screen readers read `aria_label` in place of a label that is a symbol."""
    made = Button(label=label, name=name, width=width, tags=[aria_label or label], stylesheets=[SHEET], **look)
    if act is not None:
        made.on_click(act)
    return made


def field(name, aria_label, act, *, low, high, step, width=112, **look):
    """Make a number field; a number out of range is moved to its end, and an empty field keeps the last one."""
    made = Spinner(name=name, tags=[aria_label], width=width, step=float(step), stylesheets=[SHEET], **look)
    accepted = lambda old, new: float(min(max(old if new is None else new, low), high))  # noqa: E731
    made.on_change("value", lambda attr, old, new: act(accepted(old, new)))
    return made


def text(name):
    """Make an element for text."""
    return Div(name=name, disable_math=True, sizing_mode="stretch_width", stylesheets=[SHEET])


def row(*parts, **look):
    """Put widgets side by side, or below each other on a narrow page."""
    styles = {"flex-wrap": "wrap", "align-items": "end", "gap": "6px"}
    return Row(*parts, sizing_mode="stretch_width", styles=styles, **look)


def source(name, *columns):
    """Make an empty data source."""
    return ColumnDataSource({column: [] for column in columns}, name=name)
