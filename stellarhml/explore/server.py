"""The server: one generator and its spectra, read only, and a page of its own for everyone who opens it."""

import errno
import socket

from stellarhml.inference.background import FitRunner
from stellarhml.inference.comparison import Comparison

_N_PORTS = 20  # to try, one after the other


class Shared:
    """What all pages share, and none changes.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted.
    title : str
        What it is called.
    spectra : list of (str, ObservedSpectrum or str)
        Names and spectra; text in place of a spectrum is why it could not be read.
    """

    def __init__(self, generator, title, spectra=()):
        self.generator, self.title = generator, title
        self.spectra, self.problems = [], []
        self.runner = FitRunner(generator)
        for name, spectrum in spectra:
            try:
                if isinstance(spectrum, str):
                    raise ValueError(spectrum)
                self.spectra.append((name, spectrum, Comparison(generator, spectrum)))
            except ValueError as error:
                text = " ".join(str(error).split())
                self.problems.append(text if name in text else f"{name}: {text}")


def make_server(shared, *, address="127.0.0.1", port=5006, origins=()):
    """Start to listen, but serve nothing yet.

    Parameters
    ----------
    shared : Shared
        What is shown.
    address : str, default="127.0.0.1"
        Where to listen; the loopback lets nobody in from outside.
    port : int, default=5006
        Port; where it is taken, the next one that is free. 0 takes any.
    origins : sequence of str, default=()
        HOST:PORT by which the page may be opened, besides this machine's own names for itself.

    Returns
    -------
    server : bokeh.server.server.Server
        Its `io_loop` serves when it is started.
    """
    from bokeh.application import Application
    from bokeh.application.handlers.function import FunctionHandler
    from bokeh.server.server import Server

    from stellarhml.explore.page import Page

    port = _free_port(address, port)
    allowed = [f"{host}:{port}" for host in {"localhost", "127.0.0.1", address} - {"0.0.0.0", "::"}]
    application = Application(FunctionHandler(lambda document: Page(document, shared), trap_exceptions=False))
    return Server(
        {"/": application}, address=address, port=port, allow_websocket_origin=[*allowed, *origins], keep_alive=30_000
    )


def _free_port(address, port):
    """The port, or the next one that is free."""
    for candidate in range(port, port + _N_PORTS) if port else [0]:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, candidate))
            except PermissionError:
                continue
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise OSError(
                        f"{address} cannot be listened on ({error.strerror}). Choose another address."
                    ) from error
                continue
            return trial.getsockname()[1]
    raise OSError(f"The ports {port} to {port + _N_PORTS - 1} of {address} are taken. Choose another port.")
