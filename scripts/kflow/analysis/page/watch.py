"""The page of runs in progress, served on this machine and rebuilt as steps are
completed.

Only loopback, only GET, and nothing but the page at `/`: no file can be asked for. A request that
names another host comes from a page elsewhere whose name was pointed here (DNS rebinding), and is
refused.
"""

from __future__ import annotations

import html
import io
import socketserver
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from kflow.analysis.page import page
from kflow.analysis.runs import read_all
from kflow.ground.terminal import brief, first_line, say
from kflow.results.find import find, matches, places
from kflow.results.status import line, read
from kflow.types import UserError

LOOPBACK = "127.0.0.1"
REFRESH = 30  # seconds
SILENT = 60.0  # seconds after which a running program should have written its status
LONGEST_LINE = 300  # characters
PATIENCE = 10.0  # seconds, for a browser to send its request or take the answer
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Refresh": str(REFRESH),
}
FAILED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Knowledge Flow</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'"></head>
<body>
<p>{reason}</p>
</body></html>
"""


class Page:
    """The page, built when it is asked for and a file of the runs has changed since."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._lock = threading.Lock()
        self._seen: object = None  # the files that the page was built from
        self._content = ""

    def now(self) -> str:
        """With where each run is, from its status.json; instead of a page that cannot be built,
        the reason."""
        with self._lock:
            folders, files = self._look()
            if files is None or files != self._seen:
                self._seen = None
                try:
                    self._content, self._seen = built(self._arguments), files
                except (UserError, OSError) as error:
                    self._content = failed(str(error))
                except Exception as error:  # the next step's file may mend it
                    self._content = failed(f"{type(error).__name__}: {error}")
            states = "".join(f"<p>{as_html(state(each))}</p>\n" for each in folders)
            return self._content.replace("<body>\n", f"<body>\n{states}", 1)

    def _look(self) -> tuple[list[Path], object]:
        """The folders of the runs, and what changes whenever their results do."""
        try:
            folders = list(find(self._arguments).folders)
        except UserError:  # nothing there yet but, perhaps, a status
            paths = [path for argument in self._arguments for path in matches(argument)]
            return [path for path in paths if (path / "status.json").exists()], None
        files = [
            path
            for folder in folders
            for place in places(folder, []).values()
            for path in (*place.predictions.values(), folder / "run.json")
        ]
        return folders, [(path, changed(path)) for path in files]


def built(arguments: Sequence[str]) -> str:
    content = io.BytesIO()
    page.write(read_all(arguments), content)
    return content.getvalue().decode()


def failed(reason: str) -> str:
    return FAILED.format(reason=as_html(brief(reason)))


def as_html(text: str) -> str:
    """Untrusted text as HTML."""
    return html.escape(page.safely(text))


def changed(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def state(folder: Path) -> str:
    """Where a run is, in one line."""
    name = "/".join(folder.parts[-2:])
    try:
        status = read(folder)
        age = datetime.now(timezone.utc) - datetime.fromisoformat(status.updated)
    except FileNotFoundError:
        return f"{name}: no status.json"
    except (OSError, ValueError, TypeError) as error:
        return f"{name}: status.json cannot be read ({first_line(error)})"
    sentence = f"{status.state[:LONGEST_LINE]}, {line([status], LONGEST_LINE)}"
    if status.state == "running" and age.total_seconds() > SILENT:
        sentence += f", but nothing written since {status.updated}: it may have been killed"
    return f"{name}: {sentence}"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def __init__(self, port: int, page: Page) -> None:
        super().__init__((LOOPBACK, port), Handler)
        self.page, self.port = page, self.server_address[1]
        self.hosts = [f"{name}:{self.port}" for name in (LOOPBACK, "localhost")]
        if self.port == 80:
            self.hosts += [LOOPBACK, "localhost"]

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a closed connection
            print(brief(f"A request failed ({type(error).__name__}: {error})"), file=sys.stderr)


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE
    server_version, sys_version = "kflow", ""

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.hosts:
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        if self.path != "/":
            return self.send_error(HTTPStatus.NOT_FOUND)
        content = self.server.page.now().encode()
        self.send_response(HTTPStatus.OK)
        for name, value in (*HEADERS.items(), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each refresh is a flood."""


def watch(arguments: Sequence[str], port: int) -> None:
    """Serve the page until the program is interrupted. port: 0 for one that is free. Raises
    UserError where an argument names nothing, and for a port that cannot be had."""
    for argument in arguments:
        if not matches(argument):
            raise UserError(f"{argument} does not exist: name a run's folder.")
    try:
        server = Server(port, Page(arguments))
    except OSError as error:
        raise UserError(
            f"Port {port} cannot be used ({error.strerror}): give another --port, or none."
        ) from error
    with server:
        say(f"Page: http://{LOOPBACK}:{server.port}/ (stop with Ctrl-C)")
        server.serve_forever()
