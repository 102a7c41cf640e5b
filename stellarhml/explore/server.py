"""The server: each visitor gets a page with its own state."""

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.server.server import Server

from stellarhml.explore.page import Page

_KEEP_ALIVE = 30_000  # ms


def make_server(session, port, *, address="127.0.0.1", origins=()):
    """Listen at a free port; the server answers once its `io_loop` runs.

    Pages accept commands only if they were opened by a loopback name of this machine, or by one of `origins`.
    """
    own_names = {"localhost", "127.0.0.1", address} - {"0.0.0.0", "::"}
    allowed = [*(f"{host}:{port}" for host in sorted(own_names)), *origins]
    application = Application(FunctionHandler(lambda document: Page(document, session), trap_exceptions=False))
    settings = {"allow_websocket_origin": allowed, "keep_alive_milliseconds": _KEEP_ALIVE}
    return Server({"/": application}, address=address, port=port, **settings)
