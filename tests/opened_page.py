"""A page of the explorer in a document, without a server and a browser."""

import numpy as np
from bokeh.document import Document
from bokeh.events import ButtonClick

from stellarhml.explore.page import Page


class Opened:
    """A page in a document, whose timers run when `settle` is called."""

    def __init__(self, session):
        self.document = Document()
        self.page = Page(self.document, session)

    def __getitem__(self, name):
        return self.document.get_model_by_name(name)

    def click(self, name):
        self.document.callbacks.trigger_event(ButtonClick(self[name]))

    def settle(self):
        """Run all pending callbacks, as the server does in time."""
        for _ in range(10):
            pending = self.document.session_callbacks
            if not pending:
                return
            for callback in pending:
                if callback in self.document.session_callbacks:
                    if hasattr(callback, "timeout"):
                        self.document.remove_timeout_callback(callback)
                    callback.callback()

    def data(self, name):
        return {key: np.array(part, dtype=float) for key, part in self[name].data.items()}
