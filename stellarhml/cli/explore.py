"""The command `stellarhml explore`: a page in the browser on a server of its own."""

import argparse
import errno
import re
import socket
import time
from pathlib import Path

from stellarhml.cli.terminal import add_format, one_line, tell

_DONE, _N_PORTS = 0, 20  # ports to try, one after the other
_HERE = ("127.0.0.1", "localhost")
_RESOLVING_POWERS = (1000.0, 500_000.0)


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("spectra", nargs="*", metavar="SPECTRUM", help="files of observed spectra to lie underneath")
    parser.add_argument("--generator", metavar="FILE", help="file that build wrote [one of the packaged grid]")
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open FILE though it is a pickle, which can run any code"
    )
    parser.add_argument(
        "--medium", choices=("vacuum", "air"), help="what wavelengths of SPECTRUM are in, where its format does not say"
    )
    add_format(parser)
    parser.add_argument(
        "--resolving-power", metavar="R", type=_power, help="to begin with [as the file states, or none]"
    )
    parser.add_argument(
        "--address", metavar="HOST", default="127.0.0.1", help="where to listen [%(default)s: here alone]"
    )
    parser.add_argument(
        "--port", metavar="N", type=_port, default=5006, help="port, or the next free one [%(default)s]"
    )
    parser.add_argument(
        "--origin",
        metavar="HOST:PORT",
        type=_origin,
        action="append",
        default=[],
        help="name by which others may open the page",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser, only print the address")


def run(arguments):
    """Serve the page until it is interrupted."""
    _require_bokeh()
    if arguments.generator is not None:
        _require_safe(arguments.generator, arguments.trust_pickle)
    from stellarhml.explore.server import make_server
    from stellarhml.explore.session import ExplorerSession
    from stellarhml.workflows.preparing import Reading, prepare_spectra

    generator, title = _generator(arguments.generator)
    found = prepare_spectra(arguments.spectra, Reading(arguments.medium, arguments.format))
    spectra = [
        (path, spectrum if isinstance(spectrum, str) else spectrum.replace(spectrum.orders, **_stated(arguments)))
        for path, spectrum in zip(arguments.spectra, found, strict=True)
    ]
    session = ExplorerSession(generator, title, spectra)
    for problem in session.problems:
        tell(f"warning: {problem}")
    port = _free_port(arguments.address, arguments.port)
    if arguments.address not in _HERE:
        _tell_who_may_come(arguments, port)
    server = make_server(session, port, address=arguments.address, origins=arguments.origin)
    host = "localhost" if arguments.address in ("127.0.0.1", "0.0.0.0") else arguments.address
    print(f"Explorer at http://{host}:{server.port}/ until you press Ctrl-C", flush=True)
    if not arguments.no_browser:
        server.io_loop.add_callback(server.show, "/")
    server.start()
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()
    finally:
        session.close()
    return _DONE


def packaged_generator():
    """Generator of the packaged grid; built once, and kept in the folder of downloads.

    Returns
    -------
    generator : SpectrumGenerator
        Fitted.
    """
    from stellarhml import __version__
    from stellarhml.datasets._mini_grid import load_mini_grid
    from stellarhml.exceptions import PersistenceError
    from stellarhml.grids.fetch import get_data_home
    from stellarhml.storage.saving import load, save
    from stellarhml.workflows.building import make_generator

    path = get_data_home() / f"packaged-{__version__}.shml"
    if path.is_file():
        try:
            return load(path)
        except PersistenceError:  # of a build that was cut, or of an older format
            path.unlink()
    begin = time.perf_counter()
    print("Building the generator of the packaged grid, once", flush=True)
    grid = load_mini_grid()
    generator = make_generator(grid.wavelength, label_names=grid.label_names, n_jobs=2, verbose=True)
    generator.fit(grid.labels, grid.flux)
    try:
        save(generator, path)
    except OSError as error:
        tell(f"warning: it could not be kept ({one_line(error)}), and will be built again")
    print(f"Built in {time.perf_counter() - begin:.0f} s", flush=True)
    return generator


def _generator(path):
    """The generator, and what it is called."""
    from stellarhml.storage.saving import load
    from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

    if path is None:
        return packaged_generator(), "packaged grid, 8450-8700 Å"
    generator = load(path, mmap_mode="r" if Path(path).suffix == ".shml" else None)
    if not isinstance(generator, SpectrumGenerator):
        raise ValueError(
            f"{path} holds a {type(generator).__name__}, but a SpectrumGenerator is needed. Pass a file that "
            "stellarhml build wrote."
        )
    if not generator.wavelength_[0] > 0:
        raise ValueError(
            f"{path} was fitted without wavelengths, but a page needs them in angstrom. Fit it with `wavelength`."
        )
    return generator, Path(path).name


def _tell_who_may_come(arguments, port):
    """Warn of what an address that others reach means."""
    names = ", ".join(arguments.origin)
    tell(
        f"warning: others reach {arguments.address}:{port}, and there is no password. "
        + (
            f"Pages opened as {names} work for everyone who gets there."
            if names
            else f"Pages that they open stay empty until you name how they reach it: --origin HOST:{port}."
        )
    )


def _stated(arguments):
    """What the command line states of the spectra."""
    return {} if arguments.resolving_power is None else {"resolving_power": arguments.resolving_power}


def _require_bokeh():
    try:
        import bokeh.server  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'stellarhml explore needs bokeh, which is not installed. Run: pip install "stellarhml[explore]"'
        ) from error


def _require_safe(path, trusted):
    """Raise if a file is a pickle that nobody vouches for."""
    from stellarhml.storage.saving import inspect

    if inspect(path)["format"] != "shml" and not trusted:
        raise ValueError(
            f"{path} is a pickle, which runs the code of its author when it is opened. Ask for a .shml file or, if you "
            "trust the author, add --trust-pickle."
        )


def _free_port(address, port):
    """The port, or the next one that is free."""
    for candidate in range(port, port + _N_PORTS) if port else [0]:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, candidate))
                return trial.getsockname()[1]
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    reason = error.strerror or error
                    raise OSError(f"{address} cannot be listened on ({reason}). Give another --address.") from error
    raise OSError(f"The ports {port} to {port + _N_PORTS - 1} of {address} are taken. Choose another --port.")


def _power(text):
    low, high = _RESOLVING_POWERS
    try:
        if low <= float(text) <= high:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is not from {low:g} to {high:g}")


def _port(text):
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text} is not a port, 0 to 65535")
    return int(text)


def _origin(text):
    if not re.fullmatch(r"[\w.*-]+(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is no name of a host, such as observatory.example:5006")
    return text
