"""Who may open the page: the rules that every request must satisfy, and the headers of every answer."""

import ipaddress
import re
import secrets

WEBSOCKET = "ws"
_PARTS = ("", WEBSOCKET, "page.js")  # what a page asks for behind the code, beside the files of Bokeh
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Access:
    """The names under which a server may be asked, and the code that its addresses begin with.

    `address` and `port` are what the server listens on, `origins` further names, with or without a port.

    A browser states in the header Host which name the user, or the author of a page elsewhere, asked for. A name that
    is not known is refused: a page of evil.example whose name suddenly points to this machine (DNS rebinding) is of the
    same origin as this server for the browser, but not for us. A page elsewhere cannot know the code either.
    """

    def __init__(self, address, port, origins=()):
        own = set(_LOOPBACK) | (set() if everywhere(address) else {bracketed(address)})
        self.names = {_without_usual_port(f"{name}:{port}") for name in own} | set(map(_without_usual_port, origins))
        self.code = secrets.token_urlsafe(24)

    def refusal(self, request):
        """Status and sentence for a request that is refused, or None.

        Only the header Host counts, never X-Forwarded-Host, which anyone can send.
        """
        hosts, origins = (request.headers.get_list(name) for name in ("Host", "Origin"))
        if len(hosts) != 1 or _without_usual_port(hosts[0]) not in self.names:
            return (
                403,
                "This name is not one of the explorer's. Open the address that the command printed, or allow "
                "the name when you start it: --origin HOST:PORT.",
            )
        _, code, *rest = request.path.split("/", 2) if request.path.startswith("/") else ("", "")
        if not secrets.compare_digest(code.encode(), self.code.encode()):
            return (
                403,
                "The code in this address is missing, or that of an earlier start. Open the address that the "
                "command printed; what follows the question mark of an old address can be appended to it.",
            )
        part = rest[0] if rest else None
        if part not in _PARTS and not (part or "").startswith("static/"):
            return 404, "There is no such page. Open the address that the command printed, with the / at its end."
        if len(origins) > 1 or (part == WEBSOCKET and not origins) or not all(map(self._is_own_origin, origins)):
            return 403, "Only pages of the explorer itself may send commands."
        return None

    def headers(self, host):
        """Headers of every answer: nothing is kept, shown in a frame of others, or loaded from or sent to elsewhere."""
        known = _without_usual_port(host) in self.names
        sockets = f" ws://{host} wss://{host}" if known else ""  # some browsers do not count these as 'self'
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",  # neither inline nor eval
            "style-src": "'self' 'unsafe-inline'",  # Bokeh makes style elements
            "img-src": "'self' data: blob:",
            "connect-src": f"'self'{sockets}",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        return {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # the address has the code
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    def _is_own_origin(self, origin):
        scheme, _, name = origin.partition("://")
        return scheme in ("http", "https") and _without_usual_port(name) in self.names


def bracketed(host):
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host.lower()


def everywhere(address):
    """Whether an address means all of this machine's."""
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def _without_usual_port(name):
    """A host and port in lower case, as browsers write it: without the port of http or https."""
    usual = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*):(80|443)", name.lower())
    return usual[1] if usual else name.lower()
