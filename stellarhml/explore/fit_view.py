"""The fit: a button that starts it in a thread, its progress, a button that stops it, and what came out."""

import io
import threading
import time

from bokeh.models import Column

from stellarhml.explore.widgets import PANELS, button, row, text
from stellarhml.inference._inference_result import results_table
from stellarhml.plotting._style import PLAIN_TEXT

_POLL = 150  # ms
_STAGES = ("waiting", "preparing the search, once", "start", "first fit", "fit 1", "fit 2", "fit 3", "errors")
_NONE = "No spectrum is open. Name one when you start: stellarhml explore SPECTRUM"


class Stopped(Exception):
    """The user stopped the fit."""


class FitView:
    """The panel; `ask` gives the state, `done` takes the result, `export` name and text of a file."""

    def __init__(self, document, shared, ask, done, export):
        self._document, self._shared, self._ask, self._done = document, shared, ask, done
        self.result, self._name, self._job = None, None, None
        self.start = button("Fit the spectrum", "fit", self._begin, width=140, button_type="primary")
        self.stop = button("Stop", "stop", self.cancel, width=70, disabled=True)
        self.save = button(
            "Result as ECSV", "ecsv", lambda: export("result.ecsv", self.ecsv()), width=130, disabled=True
        )
        self.start.disabled, self.text = not shared.spectra, text("fit-text")
        self.text.text = PANELS.said("" if shared.spectra else _NONE, "hint")
        self.layout = Column(row(self.start, self.stop, self.save), self.text, sizing_mode="stretch_width")

    def cancel(self):
        """Stop a fit that runs."""
        if self._job is not None:
            self._job["stop"].set()

    def ecsv(self):
        """The result as the text of an ECSV file."""
        made = io.StringIO()
        results_table([self.result], [self._name], kind="astropy").write(made, format="ascii.ecsv")
        return made.getvalue()

    def _begin(self):
        state = self._ask()
        name, spectrum, _ = self._shared.spectra[state.spectrum]
        job = self._job = {
            "name": name,
            "stop": threading.Event(),
            "stage": _STAGES[0],
            "n": 0,
            "begin": time.monotonic(),
        }
        self.start.disabled, self.stop.disabled, self.save.disabled = True, False, True
        job["future"] = self._shared.workers.submit(_fit, self._shared, spectrum, state.power, job)
        job["poll"] = self._document.add_periodic_callback(self._look, _POLL)
        self._look()

    def _look(self):
        """Tell how far the fit is, and take what it found."""
        job, future = self._job, self._job["future"]
        stopped = job["stop"].is_set()
        if not future.done() and not stopped:
            self.text.text = PANELS.progress(job["stage"], _STAGES, job["n"], time.monotonic() - job["begin"])
            return
        self._document.remove_periodic_callback(job["poll"])
        self._job, self.start.disabled, self.stop.disabled = None, False, True
        if stopped:
            self.text.text = PANELS.said("Stopped. The sliders are where they were.", "hint")
        elif future.exception() is not None:
            error = future.exception()
            reason = " ".join(str(error).split()) or type(error).__name__
            self.text.text = PANELS.said(f"The fit failed: {reason}", "problem")
        else:
            self.result, self._name = future.result(), job["name"]
            self.text.text = PANELS.fit(self.result, self._name, PLAIN_TEXT)
            self._done(self.result)
        self.save.disabled = self.result is None


def _fit(shared, spectrum, power, job):
    """Fit in a worker thread; evaluations of the model tell how far it is, and stop it."""

    def watch(stage, n):
        job["stage"], job["n"] = stage, n
        if job["stop"].is_set():
            raise Stopped

    watch(_STAGES[1], 0)
    return shared.regressor().infer(spectrum, resolving_power=power, callback=watch)
