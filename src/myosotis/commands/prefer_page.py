"""The page of `myosotis prefer`: served to this machine alone, while the command runs.

It listens on the loopback address. The address holds a token that no other page knows; a request
without it, for another host name (a name that was bound to this address), or sent by another page
is refused. A choice is kept before it is answered.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from myosotis.evaluation.chosen import CHOICES, Duel
from myosotis.report.rating_sheet import Card, render_live
from myosotis.utils.errors import MyosotisError

LOOPBACK = "127.0.0.1"
MOST_BYTES = 1_000

Choose = Callable[[Duel, str], None]


class PreferPage:
    """A page of `asked`; `choose(duel, choice)` is called for each choice, one at a time."""

    def __init__(self, asked: Sequence[Duel], choose: Choose, port: int = 0) -> None:
        self.asked = asked
        self.choose = choose
        self.token = secrets.token_urlsafe(24)
        self.done = threading.Event()
        self._open = set(range(len(asked)))
        self._one = threading.Lock()
        self.server = ThreadingHTTPServer((LOOPBACK, port), _handler(self))
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def origin(self) -> str:
        return f"http://{LOOPBACK}:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/{self.token}/"

    def html(self) -> str:
        """What is left to choose."""
        cards = [Card(i, self.asked[i].shown, self.asked[i].a, self.asked[i].b)
                 for i in sorted(self._open)]  # fmt: skip
        return render_live(cards)

    def take(self, item: int, choice: str) -> bool:
        """Keep a choice; False where that item was chosen before."""
        with self._one:
            if item not in self._open:
                return False
            self.choose(self.asked[item], choice)
            self._open.remove(item)
        if not self._open:
            self.done.set()
        return True

    def wait(self) -> None:
        """Until all are chosen."""
        while not self.done.wait(0.2):  # without a limit no signal would come through
            pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def _handler(page: PreferPage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds for a request to arrive

        def do_GET(self) -> None:
            if self._admitted(""):
                self._answer(200, page.html(), "text/html; charset=utf-8")

        def do_POST(self) -> None:
            if not self._admitted("choose"):
                return
            if self.headers.get("Origin") != page.origin:
                self._answer(403, "another page asks")
                return
            try:
                item, choice = self._read()
            except (ValueError, KeyError, TypeError):
                self._answer(400, "no choice")
                return
            try:
                known = page.take(item, choice)
            except MyosotisError as error:
                self._answer(500, error.message)
                return
            self._answer(200 if known else 409, "kept" if known else "chosen before")

        def _read(self) -> tuple[int, str]:
            if self.headers.get("Content-Type") != "application/json":
                raise ValueError("not JSON")
            size = int(self.headers["Content-Length"])
            if not 0 < size <= MOST_BYTES:
                raise ValueError("too long")
            said: dict[str, Any] = json.loads(self.rfile.read(size))
            item, choice = said["item"], said["choice"]
            if type(item) is not int or choice not in CHOICES:
                raise ValueError("no choice")
            return item, choice

        def _admitted(self, what: str) -> bool:
            """Whether it comes for this host, and with the token."""
            wanted = f"/{page.token}/{what}"
            host = self.headers.get("Host") == page.origin.removeprefix("http://")
            if host and secrets.compare_digest(self.path.encode(), wanted.encode()):
                return True
            self._answer(404, "nothing here")
            return False

        def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
            body = text.encode()
            self.send_response(code)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Cross-Origin-Resource-Policy": "same-origin",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # the address holds the token

    return Handler
