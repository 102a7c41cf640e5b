"""A server of the explorer that the command line started."""

import subprocess
import sys
from contextlib import contextmanager

# whether a page in a browser is there and has its curve
READY = "() => window.Bokeh?.documents[0]?.is_idle && Bokeh.documents[0].get_model_by_name('curve').data.x.length > 0"


@contextmanager
def serve(folder, *arguments):
    """A server that the command line started in a folder: its process, and the address of its page without the last /.

    At the end, nothing may have gone wrong in it.
    """
    command = [sys.executable, "-m", "stellarhml.cli", "explore", "--no-browser", "--port", "0", *arguments]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        assert "http://" in line, (folder / "server.log").read_text()
        yield server, line.split()[2].rstrip("/")
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    log = (folder / "server.log").read_text()
    assert "Traceback" not in log, log
    assert " error " not in log.lower(), log
