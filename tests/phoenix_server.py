"""A server of a PHOENIX folder on this machine, with faults on demand."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    """Serve files of a folder, with the faults that the server object lists."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        server, path = self.server, unquote(self.path.lstrip("/"))
        server.requests.append((self.command, path))
        status = 200 if (server.folder / path).is_file() else 404
        if self.command == "HEAD" and not server.knows_head:
            status = 405
        if body and server.statuses.get(path):
            status = server.statuses[path].pop(0)
        if self.command == "HEAD" and path in server.refused:
            status = 403
        if status != 200:
            self.send_error(status)
            return
        content = (server.folder / path).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(server.lengths.get(path, len(content))))
        self.end_headers()
        if body:
            cuts = server.cuts.get(path)
            self.wfile.write(content[: cuts.pop(0) if cuts else None])
            if path in server.stalled:
                self.wfile.flush()
                server.go_on.wait(60)

    def log_message(self, *args):
        pass


@contextmanager
def serve(folder):
    """Serve a folder; yields the server object, whose attributes are the faults."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder = folder
    server.requests, server.refused = [], set()
    server.cuts, server.statuses = {}, {}  # path -> lengths or codes of the next answers
    server.lengths = {}  # path -> length that all answers announce
    server.stalled, server.go_on = set(), threading.Event()  # paths whose answers are not ended
    server.knows_head = True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
