"""`LinkFetcher`: downloads pictures that a request links to, guarded against server-side request forgery (SSRF).

A link lets a client choose where this machine connects to. So only hosts that the policy lists are fetched, over HTTPS
and without redirects. The host's name is resolved once, all of its addresses must be public, and the connection goes
to an address that was checked, while the certificate must be that of the name. Proxies of the environment are not
used, since they would resolve the name again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from equipoise.errors import PictureError
from equipoise.guard.policy import PicturePolicy

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""A host's name and a port to its addresses; raises OSError where there are none."""
ELSEWHERE: Final = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10")))
"""Networks of IPv6 addresses that a translator turns into IPv4 addresses (NAT64, RFC 6052 and 8215; IPv4-compatible),
and the deprecated site-local network (RFC 3879)."""


def is_link(url: str) -> bool:
    """Whether the URL of a picture is a link to another host, not a data URL."""
    return url.lstrip().lower().startswith(("http:", "https:"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet and embeds no other address."""
    # What follows `%` is the network interface of a link-local address.
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        # 6to4, Teredo and NAT64 addresses carry an IPv4 address: `64:ff9b::127.0.0.1` looks public and may lead to the
        # machine itself. Mapped ones (`::ffff:10.0.0.1`) are judged as the IPv4 address that they are.
        if ip.sixtofour or ip.teredo or any(ip in network for network in ELSEWHERE):
            return False
        ip = ip.ipv4_mapped or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def resolved(host: str, port: int) -> list[str]:
    """Every address of a host, in the system's order."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in addresses))


class LinkFetcher:
    """Fetches linked pictures.

    Args:
        resolve: looks up the addresses of a host.
        public: whether an address may be connected to.
        context: the TLS settings; None takes httpx's, which trust the certificates of certifi.
        port: the only port that links may name.
    """

    def __init__(
        self,
        resolve: Resolver = resolved,
        public: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
        port: int = 443,
    ) -> None:
        self._resolve = resolve
        self._public = public
        self._port = port
        # No connection is used twice: one that was opened for a name must not serve another at the same address.
        self._client = httpx.AsyncClient(
            verify=True if context is None else context,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=0),
        )

    async def fetch(self, url: str, limits: PicturePolicy) -> bytes:
        """Download a linked picture.

        Args:
            url: the link, as it stands in the request.
            limits: the allowed hosts, the most bytes, and the time in seconds.

        Raises:
            PictureError: a host that is not listed or not public, a redirect, no answer, or too many bytes.
        """
        link = self._allowed(url, limits)
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._fetched(link, await self._address(link), limits.max_bytes)
        except TimeoutError as error:
            raise PictureError(f"expected {link.host} to answer within {limits.seconds:g} seconds") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise PictureError(f"expected a picture from {link.host}, got {type(error).__name__}") from error

    async def _address(self, link: httpx.URL) -> str:
        try:
            addresses = await self._resolve(link.host, self._port)
        except OSError as error:
            raise PictureError(f"expected an address of {link.host}, got none") from error
        # All of them, not only the one that is used: a name that mixes public and private addresses is an attack.
        if not addresses or not all(map(self._public, addresses)):
            raise PictureError(f"expected public addresses of {link.host}, got others")
        return addresses[0]

    async def _fetched(self, link: httpx.URL, address: str, most: int) -> bytes:
        # The raw bytes: what is packed small could be unpacked without end.
        headers = {"host": link.netloc.decode(), "accept": "image/*", "accept-encoding": "identity"}
        # The URL holds the checked address, so that no second look-up of the name can lead elsewhere (DNS rebinding);
        # host header and certificate are still those of the name.
        named = {"sni_hostname": link.host}
        async with self._client.stream(
            "GET", link.copy_with(host=address), headers=headers, extensions=named
        ) as response:
            if response.status_code != 200:
                kind = "a redirect" if response.is_redirect else f"status {response.status_code}"
                raise PictureError(f"expected a picture from {link.host}, got {kind}")
            # Counted while it comes in: a content-length is only what the server says.
            parts, size = [], 0
            received = response.aiter_raw()
            assert isinstance(received, AsyncGenerator)
            async with aclosing(received):
                async for part in received:
                    size += len(part)
                    if size > most:
                        raise PictureError(f"expected a picture of at most {most} bytes, got a larger one")
                    parts.append(part)
        return b"".join(parts)

    def _allowed(self, url: str, limits: PicturePolicy) -> httpx.URL:
        """The link, if the policy lists its host.

        Raises:
            PictureError: it does not, or the link is more than scheme, host, path and query.
        """
        try:
            # One parser decides and connects. Parsers differ about the host of URLs such as `https://a\@b`, so a check
            # by one would say nothing about a connection by another.
            link = httpx.URL(url.strip())
        except (httpx.InvalidURL, ValueError) as error:
            raise PictureError("expected a link, got one that cannot be read") from error
        host = link.raw_host.decode().lower()
        if not any(
            host == listed or (listed.startswith("*.") and host.endswith(listed[1:])) for listed in limits.links
        ):
            raise PictureError("expected a picture as a data URL, got a link to a host that the policy does not list")
        if link.scheme != "https" or link.userinfo or (link.port or 443) != self._port:
            raise PictureError(f"expected a link by https to port {self._port} without a user's name, got another")
        return link

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
