"""Where traces go that nobody reads: takes whatever is sent by OTLP over HTTP, and forgets it.

What telling its traces costs the app is part of what is measured; a collector is not, and has no place among two cores.
python -m loadtest.stub.collector    prints its address, and serves until it is ended
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
