"""The fit: a button that starts it in a thread, its progress, a button that stops it, and what came out."""

import io
from pathlib import Path

from bokeh.models import Column

from stellarhml._rounding import rounded
from stellarhml.explore.fit_jobs import STAGES, FitStoppedError
from stellarhml.explore.widgets import PANELS, button, row, text
from stellarhml.inference._inference_result import results_table
from stellarhml.plotting._style import PLAIN_TEXT

_POLL = 150  # ms
_HINT = "A fit takes the resolving power that is set above; labels and velocities are free."
_NONE = "No spectrum is open. Name one when you start: stellarhml explore SPECTRUM"


class FitView:
    """The panel; `ask` gives the state, `done` takes the result, `export` name and text of a file."""

    def __init__(self, document, subject, ask, done, export):
        self._document, self._subject, self._ask, self._done = document, subject, ask, done
        self.result, self._name, self._job, self._poll = None, None, None, None
        self.start = button("Fit the spectrum", "fit", self._begin, width=140, button_type="primary")
        self.stop = button("Stop", "stop", self.cancel, width=70, disabled=True)
        self.save = button("Result as ECSV", "ecsv", lambda: export("result.ecsv", self.ecsv()), width=130)
        self.start.disabled, self.save.disabled, self.text = not subject.spectra, True, text("fit-text")
        self.text.text = PANELS.said(_HINT if subject.spectra else _NONE, "hint")
        self.layout = Column(row(self.start, self.stop, self.save), self.text, sizing_mode="stretch_width")

    def cancel(self):
        """Stop a fit that runs."""
        if self._job is not None:
            self._job.stop()

    def ecsv(self):
        """The result as the text of an ECSV file."""
        made = io.StringIO()
        results_table([self.result], [self._name], kind="astropy").write(made, format="ascii.ecsv")
        return made.getvalue()

    def _begin(self):
        self._job = self._subject.fit(self._ask())
        self.start.disabled, self.stop.disabled, self.save.disabled = True, False, True
        self._poll = self._document.add_periodic_callback(self._look, _POLL)
        self._look()

    def _look(self):
        """Tell how far the fit is, and take what it found."""
        job = self._job
        if not job.done:
            self.text.text = PANELS.progress(job, STAGES)
            return
        self._document.remove_periodic_callback(self._poll)
        self._job, self.start.disabled, self.stop.disabled = None, False, True
        if job.result is not None:
            self.result, self._name = job.result, job.name
            self.text.text = PANELS.fit(self.result, Path(self._name).name, PLAIN_TEXT, rounded)
            self._done(self.result)
        elif isinstance(job.error, FitStoppedError):
            self.text.text = PANELS.said("Stopped. The sliders are where they were.", "hint")
        else:
            reason = " ".join(str(job.error).split()) or type(job.error).__name__
            self.text.text = PANELS.said(f"The fit failed: {reason}", "problem")
        self.save.disabled = self.result is None
