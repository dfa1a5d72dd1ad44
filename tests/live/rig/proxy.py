"""An HTTP proxy in front of a real server that logs every request and breaks at a chosen one.

Owns the sockets and the forwarding; what breaks when is faults.py's. Everything else passes through as it is:
keep-alive, HEAD, chunked bodies, streams. Hijacked connections (docker attach) do not.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from rig.faults import Fault, Request, fault

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"}


class Proxy:
    """Listens on a unix socket or a loopback port from construction until `close`."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], listen: str | tuple[str, int]) -> None:
        self.connect = connect
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._faults: list[Fault] = []
        self.server = _UnixServer(listen, _Handler) if isinstance(listen, str) else _TcpServer(listen, _Handler)
        self.server.proxy = self
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """As settings.yaml takes it."""
        address = self.server.socket.getsockname()
        return f"unix://{address}" if isinstance(address, str) else f"http://{address[0]}:{address[1]}"

    def close(self) -> None:
        """Stop listening and let go of every hanging call."""
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def fault(
        self,
        method: str,
        path_regex: str,
        nth: int = 1,
        kind: str = "pass",
        *,
        times: int | None = 1,
        action: Callable[[], object] | None = None,
        when: Literal["before", "after"] = "before",
    ) -> Fault:
        """Break at the nth matching request from now on, `times` in a row (None: from then on). Kinds: see faults.py.

        `path_regex` is searched in path and query without Docker's version. `action` runs before the call is passed
        on, or after the server carried it out and before the client hears of it.
        """
        planned = fault(method, path_regex, kind, nth=nth, times=times, action=action, when=when)
        self._faults.append(planned)
        return planned

    def clear_faults(self) -> None:
        """Forget every fault."""
        self._faults.clear()

    def asked(self, method: str, path_regex: str) -> list[Request]:
        """List the requests so far with that method and path."""
        return [one for one in self.requests if one.method == method and re.search(path_regex, one.path)]

    def struck(self, request: Request) -> Fault | None:
        """Log a request; the fault that is due, if any. Every matching fault counts it, the first one due wins."""
        self.requests.append(request)
        due = [one for one in list(self._faults) if one.strikes(request)]
        return due[0] if due else None

    def rewrite(self, request: Request, body: bytes) -> bytes | None:
        """Change the body of a good answer; None: pass it on as it comes."""
        del request, body
        return None

    def rewrites(self, request: Request) -> bool:
        """Whether `rewrite` is for this request."""
        del request
        return False

    def vanish(self, request: Request) -> None:
        """Make what the request is about disappear for real."""
        raise NotImplementedError(f"nothing can vanish at {request.path}")


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    daemon_threads = True
    block_on_close = False
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away (killed, timed out) is an ordinary event here."""


class _UnixServer(_Server, socketserver.UnixStreamServer):
    request_queue_size = 64


class _TcpServer(_Server, socketserver.TCPServer):
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False  # does not exist for unix sockets
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def forward(self) -> None:
        request = Request(self.command, self.path, self._body(), time.time(), dict(self.headers))
        struck = self.server.proxy.struck(request)
        if struck is None:
            self._pass_on(request, None)
            return
        if struck.when == "before":
            struck.strike()
        if struck.kind in {"hang", "reset"}:
            self._abandon(wait=struck.kind == "hang")
        elif struck.kind in {"status", "body"}:
            self._invent(struck)
        else:
            if struck.kind == "vanish":
                self.server.proxy.vanish(request)
            if struck.kind == "delay":
                self.server.proxy.closing.wait(float(struck.argument))
            self._pass_on(request, struck)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 -- the names http.server looks for

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _pass_on(self, request: Request, struck: Fault | None) -> None:
        upstream = self.server.proxy.connect()
        kind = struck.kind if struck else "pass"
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
            upstream.request(request.method, request.target, request.body or None, headers)
            answer = upstream.getresponse()
            if struck and struck.when == "after":
                struck.strike()
            if kind in {"read_timeout", "lost"}:
                answer.read()
                self._abandon(wait=kind == "read_timeout")
            else:
                self._answer(request, answer, truncate=kind == "truncate")
        except (OSError, http.client.HTTPException):
            # The server is down, or the client is gone: to the client both are a broken connection.
            self.close_connection = True
        finally:
            upstream.close()

    def _answer(self, request: Request, answer: http.client.HTTPResponse, *, truncate: bool) -> None:
        head = {key: value for key, value in answer.getheaders() if key.lower() not in HOP_BY_HOP}
        length = answer.getheader("Content-Length")
        if request.method == "HEAD" or answer.status in {204, 304}:
            self._head(answer.status, {**head, **({"Content-Length": length} if length else {})})
        elif length is None and not truncate and not self.server.proxy.rewrites(request):
            self._stream(answer, head)
        else:
            body = answer.read()
            changed = self.server.proxy.rewrite(request, body) if answer.status == 200 else None
            self._whole(answer.status, head, body if changed is None else changed, truncate=truncate)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _whole(self, status: int, headers: dict[str, str], body: bytes, *, truncate: bool = False) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body[: len(body) // 2] if truncate else body)
        self.close_connection = self.close_connection or truncate

    def _stream(self, answer: http.client.HTTPResponse, headers: dict[str, str]) -> None:
        self._head(answer.status, {**headers, "Transfer-Encoding": "chunked"})
        while chunk := answer.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def _invent(self, struck: Fault) -> None:
        status, text = 200, struck.argument
        if struck.kind == "status":
            status, text = int(struck.argument), '{"message":"made up by the test"}'
        body = b"" if self.command == "HEAD" or status in {204, 304} else text.encode()
        self._whole(status, {"Content-Type": "application/json"}, body)

    def _abandon(self, *, wait: bool) -> None:
        """Never answer: hold the connection until the client gives up, or close it at once."""
        self.close_connection = True
        while wait and not self.server.proxy.closing.wait(0.05):
            readable, _, _ = select.select([self.connection], [], [], 0)
            with contextlib.suppress(ConnectionError):
                if not readable or self.connection.recv(1, socket.MSG_PEEK):
                    continue
            break


def tcp(url: str) -> Proxy:
    """Put a proxy on a loopback port in front of an `http://host:port` server."""
    host, port = urllib.parse.urlsplit(url).hostname or "127.0.0.1", urllib.parse.urlsplit(url).port or 80
    return Proxy(lambda: http.client.HTTPConnection(host, port), ("127.0.0.1", 0))
