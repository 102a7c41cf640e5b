"""The fit panel: buttons to start and stop a fit in a thread, its progress, and its result."""

import io
from pathlib import Path

from bokeh.models import Column

from stellarhml._rounding import rounded
from stellarhml.explore.fit_jobs import STAGES, FitStoppedError, TooManyFitsError
from stellarhml.explore.widgets import PANELS, button, row, text
from stellarhml.inference._inference_result import results_table
from stellarhml.plotting._style import PLAIN_TEXT

_POLL = 150  # ms
_HINT = "A fit uses the resolving power set above; labels and velocities are free."
_HINT_EFFECTS = "A fit uses the resolving power set above; all else with a slider is free."
_NO_SPECTRUM = "No spectrum is open. Name one when you start: stellarhml explore SPECTRUM"


class FitView:
    """The panel; `get_state()` returns the page's state, `on_result(result)` and `export(name, text)` are callbacks."""

    def __init__(self, document, session, get_state, on_result, export):
        self._document, self._session, self._get_state, self._on_result = document, session, get_state, on_result
        self.result, self._name, self._job, self._poll = None, None, None, None
        self.start = button("Fit the spectrum", "fit", self._begin, width=140, button_type="primary")
        self.stop = button("Stop", "stop", self.cancel, width=70, disabled=True)
        self.save = button("Result as ECSV", "ecsv", lambda: export("result.ecsv", self.ecsv()), width=130)
        hint = _HINT_EFFECTS if session.effects.parameters else _HINT
        self.start.disabled, self.save.disabled, self.text = not session.spectra, True, text("fit-text")
        self.text.text = PANELS.note(hint if session.spectra else _NO_SPECTRUM, "hint")
        self.layout = Column(row(self.start, self.stop, self.save), self.text, sizing_mode="stretch_width")

    def cancel(self):
        """Stop the running fit."""
        if self._job is not None:
            self._job.stop()

    def ecsv(self):
        """The result as the text of an ECSV file."""
        file = io.StringIO()
        results_table([self.result], [self._name], kind="astropy").write(file, format="ascii.ecsv")
        return file.getvalue()

    def _begin(self):
        if self._job is not None:  # one fit at a time, whatever a browser sends
            return
        try:
            self._job = self._session.fit(self._get_state())
        except TooManyFitsError as error:
            self.text.text = PANELS.note(str(error), "problem")
            return
        self.start.disabled, self.stop.disabled, self.save.disabled = True, False, True
        self._poll = self._document.add_periodic_callback(self._update, _POLL)
        self._update()

    def _update(self):
        """Show the progress of the fit, and its result at the end."""
        job = self._job
        if not job.done:
            self.text.text = PANELS.progress(job, STAGES)
            return
        self._document.remove_periodic_callback(self._poll)
        self._job, self.start.disabled, self.stop.disabled = None, False, True
        if job.result is not None:
            self.result, self._name = job.result, job.name
            self.text.text = PANELS.fit(self.result, Path(self._name).name, PLAIN_TEXT, rounded, _budget(self.result))
            self._on_result(self.result)
        elif isinstance(job.error, FitStoppedError):
            self.text.text = PANELS.note("Stopped. The sliders were not moved.", "hint")
        else:
            reason = " ".join(str(job.error).split()) or type(job.error).__name__
            self.text.text = PANELS.note(f"The fit failed: {reason}", "problem")
        self.save.disabled = self.result is None


def _budget(result):
    """Error budget of a fit with line faults, its parts that are not zero; None for others."""
    if result.line_faults is None:
        return None
    table = result.error_budget().drop(columns="prior_share")
    table = table[table["total"] > 0]
    return table.loc[:, (table > 0).any()].rename(columns=lambda part: part.replace("_", " "))
