"""The server: each visitor who is let in gets a page with its own state, up to a number of pages."""

import asyncio
import logging
import re
import secrets

from bokeh.application import Application
from bokeh.application.handlers import Handler
from bokeh.events import ConnectionLost
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from bokeh.util.token import check_token_signature, get_session_id
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, OutputTransform, RequestHandler, StaticFileHandler

from stellarhml.explore.access import WEBSOCKET, Access
from stellarhml.explore.page import Page
from stellarhml.explore.widgets import FOLDER

MAX_PAGES = 20
"""Pages that may be open at a time."""

_KEEP_ALIVE, _CHECK = 30_000, 50  # ms
_YEAR = 365 * 86_400  # s
_UNOPENED, _GRACE = 30.0, 5.0  # s in which a browser must connect, and in which a lost connection may come back
_BEFORE_NEW, _AFTER_OLD = 0.02, 0.1  # s between two pages that are made or dropped, for the messages of others
_LARGEST_MESSAGE, _LARGEST_BODY = 2**20, 2**16  # bytes that a browser may send
_LONGEST_LINE = 300  # characters of the log


def make_server(session, port, *, address="127.0.0.1", origins=()):
    """Listen at a port, 0 for any that is free; the server answers once its `io_loop` runs.

    Requests are answered if they are for a loopback name of this machine, for `address`, or for one of `origins`, and
    have the code in their address: `server.path` is the path of the page.
    """
    for name in ("access", "application", "general"):
        logging.getLogger(f"tornado.{name}").addFilter(_without_paths)
    sockets, port = bind_sockets(address, port)
    access = Access(address, port, origins)
    application = _GuardedApplication(Application(_Pages(session)), access)
    # X-headers of a proxy, which anyone can send, are not believed
    http = HTTPServer(application, xheaders=False, max_body_size=_LARGEST_BODY, idle_connection_timeout=60)
    http.add_sockets(sockets)
    server = BaseServer(IOLoop.current(), application, http)
    server.path = f"/{access.code}/"
    return server


def _without_paths(record):
    """Leave out the paths of requests from a line of the log: they have the code, or most of it, and any length."""
    record.msg, record.args = re.sub(r"/\S*", "/...", record.getMessage())[:_LONGEST_LINE], ()
    return True


class _Pages(Handler):
    """Makes the pages, one after the other, and counts them."""

    def __init__(self, session):
        super().__init__()
        self._session, self._pages, self._n_pages, self._turn = session, {}, 0, asyncio.Lock()

    def process_request(self, request):
        if self._n_pages >= MAX_PAGES:
            raise HTTPError(503, reason=f"{MAX_PAGES} pages are open. Close one, and reload this one after 5 seconds")
        self._n_pages += 1
        return {}

    async def on_session_created(self, session_context):
        async with self._turn:  # many new pages at once would hold up the messages of those that are there
            await asyncio.sleep(_BEFORE_NEW)

    def modify_document(self, doc):
        try:
            context = doc.session_context
            self._pages[context.id] = Page(doc, self._session)
        except BaseException:
            self._n_pages -= 1
            raise
        IOLoop.current().call_later(_UNOPENED, self._drop, context)
        doc.on_event(ConnectionLost, lambda _: IOLoop.current().call_later(_GRACE, self._drop, context))

    async def on_session_destroyed(self, session_context):
        self._n_pages -= 1
        self._pages.pop(session_context.id).fit.cancel()

    async def _drop(self, context):
        """Drop a page, unless a browser is connected; Bokeh would drop many in one go, at 50 ms each."""
        async with self._turn:
            if not context.destroyed and not context.session.connection_count:
                context.session.request_expiration()
                await asyncio.sleep(_AFTER_OLD)  # longer than _CHECK


class _GuardedApplication(BokehTornado):
    """Bokeh's server, behind `Access`."""

    def __init__(self, application, access):
        self.access = access
        # Bokeh's own checks stay, as a second layer: origins of the websocket, and signed names of sessions
        super().__init__(
            {"/": application},
            prefix=access.code,
            extra_websocket_origins=[name if ":" in name else f"{name}:80" for name in access.names],
            extra_patterns=[(r"/(page\.js)", StaticFileHandler, {"path": FOLDER})],
            use_index=False,
            secret_key=secrets.token_bytes(32),
            sign_sessions=True,
            session_token_expiration=_YEAR,  # a session is known for as long as its page is open
            keep_alive_milliseconds=_KEEP_ALIVE,
            check_unused_sessions_milliseconds=_CHECK,
            unused_session_lifetime_milliseconds=1000 * _YEAR,  # `_Pages` drops them
            websocket_max_message_size_bytes=_LARGEST_MESSAGE,
            include_headers=[],
            include_cookies=[],
            transforms=[lambda request: _Headers(access.headers(request.headers.get("Host", "")))],
        )

    def find_handler(self, request, **kwargs):
        """Handler of a request: that of Bokeh, or a refusal."""
        refusal = self.access.refusal(request) or self._refusal_of_session(request)
        if refusal:
            return self.get_handler_delegate(request, _Refused, dict(zip(("status", "sentence"), refusal, strict=True)))
        return super().find_handler(request, **kwargs)

    def _refusal_of_session(self, request):
        """Refuse a page that names its own session, and a websocket without the page that it belongs to."""
        if "Bokeh-Session-Id" in request.headers or any(name.startswith("bokeh-") for name in request.arguments):
            return 403, "Sessions cannot be chosen."
        if request.path != f"{self.prefix}/{WEBSOCKET}":
            return None
        token = request.headers.get("Sec-WebSocket-Protocol", "").split(",")[-1].strip()
        try:
            known = check_token_signature(token, secret_key=self.secret_key, signed=True)
            self.get_session("/", get_session_id(token))
        except Exception:  # no such session, or not a token at all
            known = False
        return None if known else (403, "The page is closed. Load it anew.")


class _Refused(RequestHandler):
    """Answers a request that is refused, whatever its method."""

    def initialize(self, status, sentence):
        self._status, self._sentence = status, sentence

    def prepare(self):
        self.set_status(self._status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._sentence + "\n")


class _Headers(OutputTransform):
    """Sets the headers of an answer, whichever handler writes it."""

    def __init__(self, headers):
        self._headers = headers

    def transform_first_chunk(self, status_code, headers, chunk, finishing):
        for name, value in self._headers.items():
            headers[name] = value
        return status_code, headers, chunk
