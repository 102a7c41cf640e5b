"""The server: a page of its own for everyone who opens it."""

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.server.server import Server

from stellarhml.explore.page import Page

_KEEP_ALIVE = 30_000  # ms


def make_server(subject, port, *, address="127.0.0.1", origins=()):
    """Start to listen at a free port; the server's `io_loop` serves when it is started.

    Pages take commands only where they were opened by a name of this machine for itself, or one of `origins`.
    """
    here = {"localhost", "127.0.0.1", address} - {"0.0.0.0", "::"}
    allowed = [*(f"{host}:{port}" for host in sorted(here)), *origins]
    application = Application(FunctionHandler(lambda document: Page(document, subject), trap_exceptions=False))
    settings = {"allow_websocket_origin": allowed, "keep_alive_milliseconds": _KEEP_ALIVE}
    return Server({"/": application}, address=address, port=port, **settings)
