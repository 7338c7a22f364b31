"""Linked pictures: listed hosts, public addresses, the certificate's name, no redirects, limits."""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from equipoise.errors import PictureError
from equipoise.guard.gateway.links import LinkFetcher, is_link, is_public
from equipoise.guard.policy import PicturePolicy

HOST = "pictures.test"
LIMITS = PicturePolicy(links=(HOST, "*.example.com"), max_bytes=10_000, seconds=5)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Site:
    """A server with a certificate for one name."""

    port: int
    context: ssl.SSLContext
    requests: list[tuple[str, str]] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)

    def links(self, public: bool = True) -> LinkFetcher:
        async def resolve(host: str, port: int) -> list[str]:
            self.resolved.append(host)
            return ["127.0.0.1"]

        return LinkFetcher(resolve, (lambda address: True) if public else is_public, self.context, self.port)

    def fetch(self, path: str, host: str = HOST, limits: PicturePolicy = LIMITS, *, public: bool = True) -> bytes:
        async def go() -> bytes:
            links = self.links(public)
            try:
                return await links.fetch(f"https://{host}:{self.port}{path}", limits)
            finally:
                await links.close()

        return asyncio.run(go())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("site")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem"
    words = [*command.split(), "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    yield from serving(folder)


def serving(folder: Path) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append((self.path, self.headers["host"]))
            if self.path == "/away":
                self.send_response(302)
                self.send_header("location", "https://elsewhere.test/")
                self.end_headers()
                return
            if self.path == "/slow":
                time.sleep(1)
            self.send_response(404 if self.path == "/none" else 200)
            self.end_headers()
            self.wfile.write(png() if self.path == "/red.png" else b"x" * 20_000)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients leave in the middle here."""

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Site(server.server_address[1], ssl.create_default_context(cafile=str(folder / "cert.pem")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


def test_a_listed_host_is_fetched_from_the_address_that_was_checked(site: Site) -> None:
    assert site.fetch("/red.png") == png()
    assert site.requests[-1] == ("/red.png", f"{HOST}:{site.port}")


def test_the_certificate_must_be_the_name_s(site: Site) -> None:
    with pytest.raises(PictureError, match="ConnectError"):
        site.fetch("/red.png", "other.example.com")


@pytest.mark.parametrize(
    ("path", "message"),
    [("/away", "a redirect"), ("/none", "status 404"), ("/large", "at most 10000 bytes")],
)
def test_what_is_no_picture_to_fetch_is_one_error(site: Site, path: str, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        site.fetch(path)


def test_a_slow_host_is_given_up(site: Site) -> None:
    with pytest.raises(PictureError, match=r"within 0\.2 seconds"):
        site.fetch("/slow", limits=LIMITS.model_copy(update={"seconds": 0.2}))


def test_a_listed_name_of_a_private_address_is_not_asked(site: Site) -> None:
    before = len(site.requests)
    with pytest.raises(PictureError, match="public addresses"):
        site.fetch("/red.png", public=False)
    assert len(site.requests) == before


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/a.png",
        "https://pictures.test.evil.org/a.png",
        "https://evilexample.com/a.png",
        "https://example.com/a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://pictures.test@evil.org/a.png",
        "https://evil.org#@pictures.test/",
        "https://evil.org\\@pictures.test/",
        "https://user@pictures.test/a.png",
        "http://pictures.test/a.png",
        "https://pictures.test:22/a.png",
        "https://pictures.test\r\nx: y/",
        "https:///a.png",
        "https://" + "a" * 70_000,
    ],
)
def test_other_links_are_not_even_resolved(url: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    async def go() -> None:
        links = LinkFetcher(resolve)
        try:
            await links.fetch(url, LIMITS)
        finally:
            await links.close()

    assert is_link(url)
    with pytest.raises(PictureError):
        asyncio.run(go())


def test_a_name_without_an_address_is_one_error() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    async def go() -> None:
        links = LinkFetcher(resolve)
        try:
            await links.fetch(f"https://{HOST}/a.png", LIMITS)
        finally:
            await links.close()

    with pytest.raises(PictureError, match="expected an address of pictures"):
        asyncio.run(go())


@given(st.one_of(st.ip_addresses(v=4, network=network) for network in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16")))
def test_private_addresses_are_private_in_every_spelling(address: object) -> None:
    assert not is_public(str(address))
    assert not is_public(f"::ffff:{address}")
    assert not is_public(f"64:ff9b::{address}")
    assert not is_public(f"::{address}")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "100.64.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fec0::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)
