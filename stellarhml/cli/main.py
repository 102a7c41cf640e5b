"""The command `stellarhml`: its commands, each a module of this package with `add_arguments` and `run`.

Nothing heavy is imported before the arguments are checked, and of the commands only the one that runs.
"""

import argparse
import importlib
import signal
import sys
import threading
import warnings
from contextlib import contextmanager

from stellarhml import __version__
from stellarhml._text import one_line
from stellarhml.cli.terminal import ERROR, INTERRUPTED, TERMINATED, Terminated, report

COMMANDS = {
    "demo": "the whole method on packaged data",
    "fetch": "spectra of PHOENIX from the server of the library",
    "build": "a generator from a grid of model spectra",
    "tag": "species of a generator's lines, by a list of transitions",
    "calibrate": "corrections of a generator's lines, from reference stars",
    "predict": "labels of observed spectra",
    "inspect": "contents of a generator or of a spectrum",
    "benchmark": "the paper's experiment on any grid",
    "explore": "a page in the browser: lines and spectrum follow the labels",
}

DESCRIPTION = """\
Effective temperature, surface gravity and metallicity from high-resolution stellar spectra. Every spectrum of a model
grid is decomposed into spectral lines, the parameters of each line are interpolated over the grid, and an observed
spectrum is fitted with the lines between the grid nodes.
"""

EPILOG = """\
examples:
  stellarhml demo
  stellarhml fetch phoenix --teff 5000 6000 --logg 4 5 --feh -0.5 0 --out PHOENIX/
  stellarhml build PHOENIX/ --teff 5000 6000 --wavelength 8450 8700 --out generator.asdf
  stellarhml tag --generator generator.asdf --lines vald.lin --out tagged.asdf
  stellarhml calibrate --generator tagged.asdf --labels labels.csv --out calibrated.asdf sun.fits
  stellarhml predict --generator generator.asdf star.fits
  stellarhml inspect generator.asdf star.fits
  stellarhml benchmark --search nodes
  stellarhml explore
  stellarhml build --help

exit codes:
  0    all done
  1    predict, calibrate, benchmark, inspect: some stars or files failed; the table or a line says why
  2    nothing done: wrong arguments, or an error, in one line on standard error
  3    predict: the table could not be written and is on standard output
  130  interrupted by Ctrl-C
  143  ended by SIGTERM, as batch systems send it; what is done is kept as after Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        """Print one line and exit with 2."""
        self.exit(ERROR, f"stellarhml: error: {message}. See {self.prog} --help.\n")


def main(argv=None):
    """Run the command with `argv` (None: the arguments of the process) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv[0] if argv and argv[0] in COMMANDS else None).parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # names of files may have characters that the terminal does not
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _one_line_warnings(), _sigterm_raises():
        try:
            return arguments.run(arguments)
        except Terminated:
            report("ended by SIGTERM")
            return TERMINATED
        except KeyboardInterrupt:
            report("interrupted")
            return INTERRUPTED
        # errors of users and machines; any other is a bug and keeps its traceback
        except (ValueError, OSError, ImportError, MemoryError) as error:
            report(f"error: {one_line(error) or type(error).__name__}")
            return ERROR


def _parser(chosen=None):
    """Parser of all commands, or with the arguments of one only."""
    parser = _Parser(prog="stellarhml", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"stellarhml {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if chosen in (None, name):
            module = importlib.import_module(f"stellarhml.cli.{name}")
            command.description, command.epilog = module.DESCRIPTION, module.EPILOG
            command.set_defaults(run=module.run)
            module.add_arguments(command)
    return parser


@contextmanager
def _sigterm_raises():
    """Let SIGTERM end a command as Ctrl-C does. A second one is ignored: what is done is being written."""

    def end(number, frame):
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    # signals belong to the main thread; a handler of the caller, or that it is ignored, stays
    ours = threading.current_thread() is threading.main_thread()
    if not (ours and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _one_line_warnings():
    """Show warnings as one line each on standard error."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = lambda message, category, *_: report(f"warning: {one_line(message)}")
        yield


if __name__ == "__main__":
    sys.exit(main())
