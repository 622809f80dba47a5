"""Exchanges over HTTP that end: each has a limit in time and one in size, whatever the other side does.

httpx's own limits are for single waits: a byte a second meets them for ever, in headers as in an answer. So each
exchange is a task on an event loop, which is ended when its time is over.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 8 * 2**20
"""Size of the largest answer that is read: an embedding of 16,384 numbers takes 400 kB."""
WAITS = 5
"""Longest time for a whole answer, as a multiple of that for a piece of it."""
_ANY_ZLIB = 47  # gzip or zlib, whichever the first bytes say


class TooMuch(Exception):
    """An answer was ended, as it took too long or was too large; it would be no better at once."""


@dataclass(frozen=True)
class Reply:
    """The reply of a server."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Sends requests, from any thread.

    Args:
        headers: sent with every request.
        seconds: the longest wait for a connection, or for the next piece of an answer.

    Raises:
        ConfigError: what the environment says of proxies or certificates can't be used.
    """

    def __init__(self, headers: Mapping[str, str], seconds: float) -> None:
        import httpx

        self._seconds = WAITS * seconds
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # an answer depends on its request alone
        try:
            self._client = httpx.AsyncClient(
                headers={**headers, "Accept-Encoding": "identity"}, timeout=seconds, cookies=cookies
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise harness.ConfigError(
                f"judge openai_http: no client can be made ({type(error).__name__}: {error}). Look at HTTP_PROXY, "
                "HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR in the environment."
            ) from None
        weakref.finalize(self, _close, self._client).atexit = False

    def post(self, url: str, body: Any) -> Reply:
        """Send `body` as JSON.

        Raises:
            TooMuch: the answer took too long or is too large.
            httpx.HTTPError: there was none, or not a whole one.
        """
        return asyncio.run_coroutine_threadsafe(self._post(url, body), _loop()).result()

    async def _post(self, url: str, body: Any) -> Reply:
        try:
            async with asyncio.timeout(self._seconds), self._client.stream("POST", url, json=body) as response:
                return Reply(response.status_code, response.headers, await _content(response))
        except TimeoutError:
            raise TooMuch(f"no whole answer within {self._seconds:g} s; timeout_seconds allows for more") from None


async def _content(response: httpx.Response) -> bytes:
    """The body, unpacked no further than the limit."""
    unpacked, content = _unpacking(response.headers.get("Content-Encoding", "identity")), bytearray()
    async for piece in response.aiter_raw():
        content += unpacked(piece, MAX_BYTES + 1 - len(content))
        if len(content) > MAX_BYTES:
            raise TooMuch(f"the answer is larger than {MAX_BYTES:,} bytes")
    return bytes(content)


def _unpacking(encoding: str) -> Callable[[bytes, int], bytes]:
    """A function that gives the content in a piece of a body, no more than so many bytes of it.

    It is not asked for, yet some servers pack all that they send.
    """
    if encoding == "identity":
        return lambda piece, _: piece
    if encoding not in ("gzip", "deflate"):
        raise TooMuch(f"the answer is packed as {encoding!r:.40}, which was not asked for")
    return zlib.decompressobj(_ANY_ZLIB).decompress


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own: there may be one already where judges are called, as in a notebook."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="exchanges", daemon=True).start()
    return loop


def _close(client: httpx.AsyncClient) -> None:
    asyncio.run_coroutine_threadsafe(client.aclose(), _loop())
