"""Colours, names and styles of the page: dark enough on white for WCAG 2 AA, told apart with any colour vision."""

from html import escape
from pathlib import Path

MODEL, OBSERVED, RESIDUAL, CHOSEN, UNKNOWN = "#C04F00", "#444444", "#0072B2", "#8E3B76", "#767676"
SERIES = ("#0072B2", "#C04F00", "#007A57", "#8E3B76", "#7A6200", "#444444")
EDGE = ("#0072B2", "#C04F00")  # of a slider inside of the grid, and at its edge
TEXT = {
    "teff": "Teff [K]",
    "logg": "log g [dex(cm/s²)]",
    "feh": "[Fe/H] [dex]",
    "alpha": "[α/Fe] [dex]",
    "rv": "Radial velocity [km/s]",
    "vsini": "v sin i [km/s]",
    "power": "Resolving power",
    "center": "center [Å]",
    "log_amplitude": "ln amplitude",
    "log_sigma": "ln (σ / Å)",
    "log_gamma": "ln (γ / Å)",
    "logit_depth": "logit of limiting depth",
    "log_wing": "ln (wing / core)",
    "depth": "depth",
    "equivalent_width": "equivalent width [Å]",
    "saturation": "saturation",
}
TEMPLATE = Path(__file__).with_name("page.html")
SHEET = """
:host { font: 14px/1.35 system-ui, sans-serif; color: #1a1a1a; }
label, .bk-input-group label, .bk-slider-title { color: #1a1a1a; font-size: 13px; }
.bk-input { border: 1px solid #6b6b6b; color: #1a1a1a; background-color: #fff; }
.bk-btn { border: 1px solid #6b6b6b; color: #1a1a1a; font-size: 13px; }
.bk-btn:disabled, .bk-input:disabled { color: #595959; opacity: 1; background-color: #eee; }
.bk-btn-primary { background-color: #005a9c; border-color: #005a9c; color: #fff; }
.noUi-target { border: 1px solid #767676; }
.noUi-handle { border: 1px solid #404040; background: #fff; }
:focus-visible, .noUi-handle:focus { outline: 3px solid #005a9c; outline-offset: 1px; }
table { border-collapse: collapse; font-size: 13px; }
caption { text-align: left; font-weight: 600; padding: 2px 0; }
th, td { text-align: right; padding: 2px 8px; border-bottom: 1px solid #c8c8c8; font-weight: 400; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { font-weight: 600; }
progress { width: 100%; accent-color: #005a9c; }
"""


def table(head, rows, caption):
    """A table as HTML; everything in it is escaped."""
    cells = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
