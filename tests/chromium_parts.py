"""A real Chromium without a screen, driven through WebDriver (W3C) over plain HTTP, and web sites for it to show.

The sites are names like ``office.example`` over TLS with a certificate that nobody signed; the browser is told where
the names lead and to take the certificate. It reaches nothing outside this machine.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Chromium", "Pages", "ScriptError"]

START_SECONDS = 60.0
"""Patience for the driver and the browser to start, on a machine where everything runs at once."""
SCRIPT_SECONDS = 60.0
BROWSER = "/usr/lib/chromium/chromium"
"""Debian's program itself: the script before it adds what the machine's administrator likes."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--ignore-certificate-errors",
)


class ScriptError(Exception):
    """WebDriver answered with an error; ``code`` is its name ("javascript error", "timeout")."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def _required(path: str | None, name: str) -> str:
    """Return the path of a program; a missing one fails in CI and skips elsewhere."""
    if path is None or not os.access(path, os.X_OK):
        message = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


class Chromium:
    """A browser with a profile of its own. Use it as a context manager.

    :param flags: further arguments. :param names: what host names lead to, as in ``--host-resolver-rules``
        ("MAP *.example 127.0.0.1"). :param public: ``address:port`` that count as the Internet: otherwise pages from
        this machine may reach this machine without asking (Local Network Access).
    :param options: further members of ``goog:chromeOptions``. :param environment: of driver and browser.
    """

    def __init__(
        self,
        *flags: str,
        names: Sequence[str] = ("MAP *.example 127.0.0.1",),
        public: Sequence[str] = (),
        options: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._driver_program = _required(shutil.which("chromedriver"), "chromedriver")
        browser = BROWSER if Path(BROWSER).exists() else shutil.which("chromium")
        self._browser_program = _required(browser, "chromium")
        self._flags = [*FLAGS, *flags, f"--host-resolver-rules={', '.join(names)}"]
        if public:
            self._flags.append(f"--ip-address-space-overrides={','.join(f'{place}=public' for place in public)}")
        self._options = options or {}
        self._environment = environment or {}
        self._session = ""

    def __enter__(self) -> Chromium:
        # Its own short path: the browser makes sockets in it.
        self._folder = tempfile.TemporaryDirectory(prefix="chrome", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        """Where profile and driver log are."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        log = self.folder / "driver.log"
        with log.open("wb") as written:
            self._process = subprocess.Popen(
                [self._driver_program, "--port=0"],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                # The browser finds no bus and no keys of whoever runs the tests.
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.folder),
                    "TMPDIR": str(self.folder),
                    "LANG": "C.UTF-8",
                    **self._environment,
                },
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"started successfully on port (\d+)", log.read_text(errors="replace"))):
            assert self._process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)
        self._base = f"http://127.0.0.1:{found[1]}"
        asked = {
            "capabilities": {
                "alwaysMatch": {
                    "browserName": "chrome",
                    "timeouts": {"script": int(SCRIPT_SECONDS * 1000), "pageLoad": int(SCRIPT_SECONDS * 1000)},
                    "goog:loggingPrefs": {"browser": "ALL"},
                    "goog:chromeOptions": {
                        "binary": self._browser_program,
                        "args": [*self._flags, f"--user-data-dir={self.folder / 'profile'}"],
                        **self._options,
                    },
                }
            }
        }
        answer = self._call("POST", "/session", asked, START_SECONDS)
        self._session = f"/session/{answer['sessionId']}"
        self.version: str = answer["capabilities"]["browserVersion"]

    def close(self) -> None:
        """End browser and driver, and everything they started."""
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None:
            if self._session:
                with contextlib.suppress(OSError, ScriptError):
                    self._call("DELETE", self._session, None, 20)
                self._session = ""
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
        self._folder.cleanup()

    def _call(self, method: str, path: str, body: Any = None, seconds: float = SCRIPT_SECONDS + 10) -> Any:
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=None if method in ("GET", "DELETE") else json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=seconds) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise ScriptError(value["error"], value["message"]) from None

    def open(self, address: str) -> None:
        """Show a page and wait until it is loaded."""
        self._call("POST", f"{self._session}/url", {"url": address})

    @property
    def address(self) -> str:
        """What it shows."""
        return str(self._call("GET", f"{self._session}/url"))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of an asynchronous function in the page; ``arguments`` is what it is given.

        :return: what it returns (JSON values). :raises ScriptError: it threw.
        """
        body = f"return (async function() {{ {script} }}).apply(null, arguments)"
        return self._call("POST", f"{self._session}/execute/sync", {"script": body, "args": arguments})

    def in_frame(self, selector: str, script: str, *arguments: Any) -> Any:
        """Run a script, as :meth:`run` does, in the frame that a CSS selector finds in the page."""
        found = self._call("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._call("POST", f"{self._session}/frame", {"id": found})
        try:
            return self.run(script, *arguments)
        finally:
            self._call("POST", f"{self._session}/frame", {"id": None})

    def cdp(self, command: str, **parameters: Any) -> Any:
        """Give a command of the DevTools protocol; return its answer."""
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def permit(self, origin: str, name: str, setting: str = "granted") -> None:
        """Answer a permission prompt for an origin in advance.

        :param name: of the permission, e.g. "loopback-network". :param setting: granted, denied or prompt.
        """
        self.cdp("Browser.setPermission", origin=origin, permission={"name": name}, setting=setting)

    def console(self) -> list[str]:
        """Return what was said on the console since the last call."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]


@dataclass(frozen=True)
class Page:
    """What a path of a site shows."""

    body: bytes
    media_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """A request that a site had."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes


class Pages:
    """A web server for any number of names, on 127.0.0.1. Use it as a context manager.

    :param secure: over TLS. Only such pages (and those of localhost) may ask for access to this machine.
    """

    def __init__(self, *, secure: bool = True) -> None:
        self.pages: dict[str, Page] = {"/": Page(b"<!doctype html><title>page</title><body>page</body>")}
        """By path; every name shows the same."""
        self.visits: list[Visit] = []
        self._secure = secure
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                pages.visits.append(Visit(self.command, headers.get("host", ""), self.path, headers, body))
                page = pages.pages.get(self.path.partition("?")[0])
                self.send_response(200 if page else 404)
                page = page or Page(b"")
                for name, value in page.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", page.media_type)
                self.send_header("Content-Length", str(len(page.body)))
                self.end_headers()
                self.wfile.write(page.body)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a browser opens connections that it does not use

        self._server = Server(("127.0.0.1", 0), Handler)
        if secure:
            self._server.socket = _tls().wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Pages:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def place(self) -> str:
        """``address:port``, for :class:`Chromium`'s ``public``."""
        return f"127.0.0.1:{self.port}"

    def origin(self, name: str) -> str:
        """Return the origin of one of its sites."""
        return f"{'https' if self._secure else 'http'}://{name}:{self.port}"


def _tls() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Site")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context
