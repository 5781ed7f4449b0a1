"""How a server is reached: connections, proxies and lookups, and what an answer says that is no
reply.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from kflow.engines.openai_engine.api import Api
from kflow.engines.openai_engine.retry import Fault, fault_of, retry_after
from kflow.engines.openai_engine.streamed import short
from kflow.ground.redaction import key

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0  # seconds
LOOK_TIMEOUT = 10.0  # seconds for an answer about models or a version, or the body of an error
LONGEST_ERROR = 1 << 16  # bytes
MOST_FILES = 65_536


def session(url: str) -> aiohttp.ClientSession:
    """Connections to one server, each for one request: until a chain's next rollout many a server
    closes one that is idle. TCP finds out within two minutes that a peer is gone. Neither
    redirects nor cookies are followed, and no password is taken from a file."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            force_close=True,
            socket_factory=kept_alive,
            resolver=aiohttp.ThreadedResolver(),
        ),
        proxy=proxy_of(url) or None,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


def proxy_of(url: str) -> str:
    """The proxy that the environment names for an address, "" for none: a server on this machine
    is asked directly, and so is one in a network of no_proxy, which Python reads no networks of."""
    parts = urlsplit(url)
    host, proxies = parts.hostname or "", getproxies()
    spared = proxies.get("no", "").replace(" ", "").split(",")
    if on_this_machine(url) or proxy_bypass(host) or any(is_in(host, name) for name in spared):
        return ""
    return proxies.get(parts.scheme, "")


def on_this_machine(url: str) -> bool:
    """Whether an address is one of loopback."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def is_in(host: str, network: str) -> bool:
    """Whether a host is given by an address in a network that is given by addresses too."""
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    return False


class DaemonThreads(ThreadPoolExecutor):
    """Threads that nobody waits for on the way out of the program: an event loop joins those of
    its own executor at its end, and so does the interpreter."""

    def submit(self, work: Callable[..., T], /, *args: Any, **more: Any) -> Future[T]:
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()

        def run() -> None:
            try:
                result = work(*args, **more)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return done


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a coroutine returns, run in a thread: this one may have an event loop that runs, as in
    a notebook. Ctrl-C is not kept waiting for it."""
    tasks: list[asyncio.Task[T]] = []

    async def run() -> T:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DaemonThreads())
        tasks.append(loop.create_task(work()))
        return await tasks[0]

    done = DaemonThreads().submit(lambda: asyncio.run(run()))
    try:
        return done.result()
    finally:
        for task in tasks:
            with suppress(RuntimeError):  # its loop has ended
                task.get_loop().call_soon_threadsafe(task.cancel)


def kept_alive(address: tuple[Any, Any, int, str, Any]) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    return connection


def authorization() -> dict[str, str]:
    """The header with the key, where there is one."""
    secret = key()
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def post(http: aiohttp.ClientSession, url: str, api: Api, sent: bytes) -> Any:
    headers = {"Content-Type": "application/json", **authorization()}
    return http.post(f"{url}/{api.path}", data=sent, headers=headers, allow_redirects=False)


async def fault_in(response: aiohttp.ClientResponse) -> Fault | None:
    """What a response says by its status and headers, before its body is read; None: a reply."""
    if response.status == 200:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            return Fault(f"a compressed reply ({encoding[:20]}), not asked for", down=True)
        return None
    body = await read(response, LONGEST_ERROR)
    message = message_in(body)
    if 300 <= response.status < 400:
        message = "it redirects to another address, which is not followed"
    asked_pause = retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
    words = f"HTTP {response.status}" + (f": {message}" if message else "")
    return fault_of(response.status, words, asked_pause, body)


async def read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body's first bytes, at most so many; what is there of one that does not end."""
    import aiohttp

    body = bytearray()

    async def fill() -> None:
        while len(body) < most and (piece := await response.content.readany()):
            body.extend(piece)

    with suppress(aiohttp.ClientError, asyncio.TimeoutError):
        await asyncio.wait_for(fill(), LOOK_TIMEOUT)
    return bytes(body[:most])


def message_in(body: bytes) -> str:
    """What a server's error says: the message in its JSON, else the beginning of its text."""
    try:
        value = orjson.loads(body)
        for name in ("error", "message", "detail"):
            value = value.get(name, value) if isinstance(value, dict) else value
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
    except ValueError:
        text = short(body)
    return " ".join(text[:2000].split())


def reason(error: BaseException) -> str:
    """Why a server was not reached: the innermost error of the network's libraries."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "no answer in time"
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error)[:2000].split())
    # The library writes that a connection broke off as the status 400.
    return text.removeprefix("400, message: ") or type(error).__name__


async def whatever_is_there(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a body; none at its end. What came right before the connection broke off
    may be the end of a reply, but the library keeps it behind its error."""
    import aiohttp

    try:
        return await response.content.readany()
    except aiohttp.ClientPayloadError:
        if left := response.content._read_nowait(-1):
            return left
        raise


async def leave_alone(response: aiohttp.ClientResponse, seconds: float) -> None:
    """Let what a server sends pile up in the kernel; nothing wakes up for it meanwhile."""
    transport = None if response.connection is None else response.connection.transport
    if transport is not None:  # else all of it is there
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            transport.resume_reading()


def allow_connections() -> None:
    """Let this process have thousands of connections: a usual soft limit is 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
