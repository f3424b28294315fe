"""The blast radius calculator as one HTML file: its own style, script and inputs inside, no request to anywhere.

`engine.js` is the browser's twin of `core.draws`, `core.blast_radius` and `core.blast_lines`: same order of operations on
the same numbers, so its figures equal the command line's. `page.js` is what people touch.
"""

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from gpuledger import __version__
from gpuledger.errors import UsageError

HOST = "127.0.0.1"


def render(model: Mapping[str, Any]) -> str:
    """Return the whole page with these inputs (see `pipeline.blast_radius.page_model`)."""
    folder = files(__name__)
    page = folder.joinpath("page.html").read_text("utf-8")
    # `</script>` or `<!--` in a pool's name must not end or open anything.
    data = json.dumps(model, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    parts = {
        "{{style}}": folder.joinpath("style.css").read_text("utf-8"),
        "{{engine}}": folder.joinpath("engine.js").read_text("utf-8"),
        "{{script}}": folder.joinpath("page.js").read_text("utf-8"),
        "{{version}}": __version__,
        "{{model}}": data,
    }
    for mark, text in parts.items():  # the model comes last: nothing in it is replaced
        page = page.replace(mark, text)
    return page


def server(page: str, port: int) -> ThreadingHTTPServer:
    """Return a server of that page for this machine only. Raises UsageError when the port is taken."""
    body = page.encode()

    class Handler(BaseHTTPRequestHandler):
        """Answers `/` with the page, anything else with 404."""

        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == "/"
            answer = body if known else b"not found\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", f"text/{'html' if known else 'plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Cache-Control", "no-store")
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; worker-src blob:; base-uri 'none'; form-action 'none'",
            )
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
            """Say nothing: one reader, one page."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UsageError(
            f"port {port} can't be used: {error.strerror}", hint="Give another --port, or 0."
        ) from error


def serve_page(page: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve the page until interrupted, and open a browser where there is one."""
    import webbrowser

    with server(page, port) as serving:
        address = f"http://{HOST}:{serving.server_address[1]}/"
        tell(f"the calculator is at {address} (Ctrl-C ends it)")
        webbrowser.open(address)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            tell("stopped")
