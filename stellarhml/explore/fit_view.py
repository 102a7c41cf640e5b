"""The fit: a button that starts it in a thread, its progress, a button that stops it, and what came out."""

import io
import threading
import time
from html import escape

from bokeh.models import Button, Column, Div, Row

from stellarhml.explore.look import SHEET, TEXT, table
from stellarhml.inference._inference_result import results_table

_POLL = 150  # ms
_STAGES = ("waiting", "preparing the search", "start", "first fit", "fit 1", "fit 2", "fit 3", "errors")


class Stopped(Exception):
    """The user stopped the fit."""


class FitView:
    """The panel of the fit.

    Parameters
    ----------
    document : Document
        The page.
    shared : Shared
        Generator, spectra and workers.
    ask, done, export : callable
        Gives the state; takes the result; takes name and text of a file.

    Attributes
    ----------
    layout : Column
        What is put on the page.
    result : InferenceResult or None
        Of the last fit.
    """

    def __init__(self, document, shared, ask, done, export):
        self._document, self._shared, self._ask, self._done = document, shared, ask, done
        self.result, self._name, self._job, self._poll = None, None, None, None
        self.start = Button(label="Fit the spectrum", button_type="primary", name="fit", width=140, stylesheets=[SHEET])
        self.stop = Button(label="Stop", name="stop", width=70, disabled=True, stylesheets=[SHEET])
        self.save = Button(label="Result as ECSV", name="ecsv", width=130, disabled=True, stylesheets=[SHEET])
        self.text = Div(name="fit-text", disable_math=True, sizing_mode="stretch_width", stylesheets=[SHEET])
        if not shared.spectra:
            self.start.disabled = True
            self.text.text = "<p>No spectrum is open. Name one: <code>stellarhml explore SPECTRUM</code>.</p>"
        self.start.on_click(self._begin)
        self.stop.on_click(self.cancel)
        self.save.on_click(lambda: export("result.ecsv", self.ecsv()))
        row = Row(self.start, self.stop, self.save, styles={"flex-wrap": "wrap", "gap": "8px"})
        self.layout = Column(row, self.text, sizing_mode="stretch_width")

    def cancel(self):
        """Stop a fit that runs."""
        if self._job is not None:
            self._job["stop"].set()

    def ecsv(self):
        """The result as the text of an ECSV file."""
        text = io.StringIO()
        results_table([self.result], [self._name], kind="astropy").write(text, format="ascii.ecsv")
        return text.getvalue()

    def _begin(self):
        state = self._ask()
        name, spectrum, _ = self._shared.spectra[state.spectrum]
        job = self._job = {"name": name, "stop": threading.Event(), "stage": "waiting", "n": 0, "begin": time.monotonic()}
        self.start.disabled, self.stop.disabled, self.save.disabled = True, False, True
        job["future"] = self._shared.workers.submit(_fit, self._shared, spectrum, state.power, job)
        self._poll = self._document.add_periodic_callback(self._look, _POLL)
        self._look()

    def _look(self):
        """Tell how far the fit is, and take what it found."""
        job = self._job
        stopped = job["stop"].is_set()
        if not job["future"].done() and not stopped:
            stage, seconds = _STAGES.index(job["stage"]), time.monotonic() - job["begin"]
            self.text.text = (
                f'<p role="status"><progress max="{len(_STAGES)}" value="{stage}" aria-label="progress of the fit"></progress>'
                f"{job['stage']}: {job['n']} evaluations of the model, {seconds:.0f} s</p>"
            )
            return
        self._document.remove_periodic_callback(self._poll)
        self.start.disabled, self.stop.disabled, self._job = False, True, None
        error = None if stopped else job["future"].exception()
        if stopped or isinstance(error, Stopped):
            self.text.text = '<p role="status">Stopped. The sliders are where they were.</p>'
        elif error is not None:
            text = " ".join(str(error).split()) or type(error).__name__
            self.text.text = f'<p role="alert"><b>The fit failed.</b> {escape(text)}</p>'
        else:
            self.result, self._name = job["future"].result(), job["name"]
            self.text.text = _tell(self.result, self._name)
            self._done(self.result)
        if self.result is not None:
            self.save.disabled = False


def _fit(shared, spectrum, power, job):
    """Fit in a worker thread; the model's evaluations tell how far it is, and stop it."""

    def watch(stage, n):
        job["stage"], job["n"] = stage, n
        if job["stop"].is_set():
            raise Stopped

    watch("preparing the search", 0)
    regressor = shared.regressor()
    return regressor.infer(spectrum, resolving_power=power, callback=watch)


def _tell(result, name):
    """What a fit found, as HTML."""
    rows = [(TEXT.get(key, key), f"{result.values[key]:.5g}", f"{result.errors[key]:.2g}") for key in result.names]
    chi2 = f"{result.reduced_chi2:.3g}" if result.reduced_chi2 == result.reduced_chi2 else "unknown: no errors given"
    notes = "".join(f"<li>{escape(message)}</li>" for message in result.messages)
    return (
        table(("Parameter", "value", "error"), rows, f"Result: {name}")
        + f"<p>Reduced chi-square {chi2}; {result.n_pixels} pixels, {result.n_rejected} rejected; {result.seconds:.1f} s.<br>"
        + f"Flags: {escape(result.flag_names.replace('|', ', ') or 'none')}</p>"
        + (f"<ul>{notes}</ul>" if notes else "")
    )
