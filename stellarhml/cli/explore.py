"""The command `stellarhml explore`."""

import argparse
import errno
import gc
import re
import socket
from pathlib import Path

from stellarhml.cli.reading import add_air, add_effects, effects_of
from stellarhml.cli.terminal import DONE, add_generator, add_spectra, report
from stellarhml.explore.access import bracketed, everywhere

_N_PORTS = 20  # ports to try, one after the other
_LOCAL = ("127.0.0.1", "localhost", "::1")
_RESOLVING_POWERS = (1000.0, 500_000.0)

DESCRIPTION = """\
Open a page in the browser with a slider for each label: the model spectrum and its lines follow, over an observed
spectrum. Needs bokeh: pip install "stellarhml[explore]".
"""

EPILOG = """\
on the page:
  Without --generator, that of the packaged grid (66 solar-type spectra, 8450-8700 angstrom); it is built at the first
  start, in under a minute, and kept in the folder of downloads (STELLARHML_DATA, or ~/.cache/stellarhml). SPECTRUM is a
  file as for `stellarhml predict`; if one cannot be read, the page says why. docs/explore.md describes the page.

effects:
  Each of these options brings sliders for its parameters, with their names as in `stellarhml predict`: --tellurics the
  amounts a_H2O, ... and rv_air; --companion flux_ratio, teff_2, logg_2, rv_2, vsini_2; --spots teff_spot and f_spot;
  --veiling veiling (sloped: veiling_slope); --macroturbulence vmac; --resolving-power-error resolving_power_factor. The
  model on the page has them, and a fit on the page fits them. A second star or spots that the data do not show are left
  out of its result, and their share of the light is 0 then. --tellurics is as with predict --tellurics-mode fit.

access:
  Whoever has the address that is printed, with its code, which is new at every start. Only from this machine, unless
  --address names another (IPv6 too, such as ::1), and only under names of this machine, of --address and of --origin;
  all others are refused. There is no password and no encryption. Nothing is uploaded.
  A generator that is a pickle (joblib) runs its author's code when it is opened, and needs --trust-pickle.

examples:
  stellarhml explore
  stellarhml explore --generator generator.asdf --medium vacuum star.txt
  stellarhml explore --generator generator.asdf --tellurics air.csv --veiling constant star.fits
  stellarhml explore --generator generator.asdf --port 8000 --no-browser night1/*.fits

exit codes:
  0 ended by Ctrl-C, 2 error
"""


def add_arguments(parser):
    """Add the arguments of the command."""
    parser.add_argument("spectra", nargs="*", metavar="SPECTRUM", help="files of observed spectra to show")
    add_generator(parser, required=False)
    add_spectra(parser)
    parser.add_argument(
        "--resolving-power", metavar="R", type=_power, help="resolving power at the start [as the file states, or none]"
    )
    add_effects(parser)
    parser.add_argument("--tellurics", metavar="FILE", help="transmission of the Earth's atmosphere, to be fitted")
    add_air(parser)
    parser.add_argument(
        "--address", metavar="HOST", default="127.0.0.1", help="address to listen on [%(default)s: this machine only]"
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
        help="name under which others may open the page; without a port behind a proxy; may be repeated",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser, only print the address")


def run(arguments):
    """Serve the page until Ctrl-C."""
    _require_bokeh()
    from bokeh.util.browser import view

    from stellarhml.explore.server import make_server
    from stellarhml.explore.session import ExplorerSession
    from stellarhml.workflows.predicting import read_spectra

    generator, title = _generator(arguments.generator, arguments.trust_pickle)
    found = read_spectra(arguments.spectra, medium=arguments.medium, format=arguments.format)
    stated = {} if arguments.resolving_power is None else {"resolving_power": arguments.resolving_power}
    spectra = [
        (path, spectrum if isinstance(spectrum, str) else spectrum.replace(spectrum.orders, **stated))
        for path, spectrum in zip(arguments.spectra, found, strict=True)
    ]
    session = ExplorerSession(generator, title, spectra, **effects_of(arguments), **_air(arguments))
    for problem in session.problems:
        report(f"warning: {problem}")
    port = _free_port(arguments.address, arguments.port)
    if arguments.address not in _LOCAL:
        _warn_of_access(arguments, port)
    server = make_server(session, port, address=arguments.address, origins=arguments.origin)
    here = arguments.address == "127.0.0.1" or everywhere(arguments.address)
    page = f"http://{'localhost' if here else bracketed(arguments.address)}:{port}{server.path}"
    print(f"Explorer at {page} until you press Ctrl-C", flush=True)
    if not arguments.no_browser:
        server.io_loop.add_callback(view, page)
    server.start()
    gc.collect()
    gc.freeze()  # Bokeh collects garbage at the end of every page: it need not look through all modules then
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()
    finally:
        session.close()
    return DONE


def _air(arguments):
    """The atmosphere and the velocity of the observatory, as arguments of `infer`."""
    from stellarhml.spectra.transmissions import read_atmosphere

    if arguments.tellurics is None:
        if arguments.tellurics_medium is not None:
            raise ValueError("--tellurics-medium needs --tellurics FILE, the transmission of the atmosphere")
        return {"barycentric": arguments.barycentric}
    atmosphere = read_atmosphere(arguments.tellurics, medium=arguments.tellurics_medium)
    return {"tellurics": atmosphere, "barycentric": arguments.barycentric}


def _generator(path, trust_pickle):
    """The generator, and its title on the page."""
    from stellarhml.workflows.generators import packaged_generator
    from stellarhml.workflows.predicting import open_generator

    if path is None:
        return packaged_generator(verbose=True), "packaged grid, 8450-8700 Å"
    generator = open_generator(path, trust_pickle=trust_pickle)
    if not generator.wavelength_[0] > 0:
        raise ValueError(
            f"{path} was fitted without wavelengths, but a page needs them in angstrom. Fit it with `wavelength`."
        )
    return generator, Path(path).name


def _warn_of_access(arguments, port):
    """Warn of an address that others reach."""
    names = ", ".join(arguments.origin)
    report(
        f"warning: others reach {bracketed(arguments.address)}:{port}. Whoever has the address with its code can use "
        "the page, and nothing is encrypted. "
        + (
            f"The page answers as {names}."
            if names
            else f"Requests under other names are refused until you give these: --origin HOST:{port}."
        )
    )


def _require_bokeh():
    try:
        import bokeh.server  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'stellarhml explore needs bokeh, which is not installed. Run: pip install "stellarhml[explore]"'
        ) from error


def _free_port(address, port):
    """The port, or the next one that is free."""
    try:
        family, kind, _, _, (host, *_) = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"{address} is not known here ({error.strerror or error}). Give another --address.") from error
    for candidate in range(port, port + _N_PORTS) if port else [0]:
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, candidate))
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
    if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is not the name of one host, such as observatory.example:5006")
    return text
