"""A web server that keeps what it is sent and answers as it is told."""

import collections
import http.server
import socket
import ssl
import threading

Request = collections.namedtuple("Request", "method path headers body")


class WebServer:
    """On a port of its own, kept over `stop` and `start`."""

    def __init__(self, port, identity=None, client_ca=None):
        self.port = port
        self.requests = []
        self.answer = lambda request: 200
        self._identity, self._client_ca = identity, client_ca
        self._server = None
        self._links = set()
        self._news = threading.Condition()

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer._links.add(self.connection)

            def finish(self):
                outer._links.discard(self.connection)
                super().finish()

            def _any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, self.path, dict(self.headers), body)
                status = outer.answer(request)
                with outer._news:
                    outer.requests.append((status, request))
                    outer._news.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_PUT = do_DELETE = _any

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                """A client that is refused or goes away is no news."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self._identity:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(str(self._identity.certificate), str(self._identity.key))
            if self._client_ca:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(str(self._client_ca))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        for link in list(self._links):
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # gone already

    def taken(self):
        """The requests that were answered with success."""
        with self._news:
            return [request for status, request in self.requests if status < 300]

    def wait(self, count, deadline=30.0):
        """The requests taken, when there are so many."""
        def enough():
            return sum(status < 300 for status, _ in self.requests) >= count

        with self._news:
            assert self._news.wait_for(enough, deadline), f"{count} requests: {self.requests}"
        return self.taken()
