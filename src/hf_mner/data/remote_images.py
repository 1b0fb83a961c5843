"""Fetch an image from the web without letting its address reach into the own network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_REDIRECTS = 3
MAX_BYTES = 50_000_000
TIMEOUT_S = 10.0
# Networks whose IPv6 addresses carry an IPv4 address inside (NAT64, 6to4, Teredo): they could smuggle a private one.
_TUNNELS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


def fetch_image(url: str) -> bytes:
    """Return what an http(s) address holds; every host, also of a redirect, must be on the public internet.

    The connection goes to the very address that was checked, so a name cannot change its mind in between. Proxies
    set in the environment are not used.

    Raises:
        ValueError: for another scheme, a host that cannot be resolved or is not public, too many redirects, an
            answer other than 200, or more than 50 MB.
    """
    for _ in range(MAX_REDIRECTS + 1):
        target = _fetch_once(url)
        if isinstance(target, bytes):
            return target
        url = urljoin(url, target)
    raise ValueError(f"Image address {url!r} redirects more than {MAX_REDIRECTS} times; give the final address.")


def resolve_public_addresses(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host.

    Raises:
        ValueError: if the host cannot be resolved, or any of its addresses is private, loopback, link-local,
            multicast or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"Image host {host!r} cannot be resolved ({error}); check the address.") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public_address(address):
            raise ValueError(
                f"Image host {host!r} is at {address}, which is not a public address; only public hosts are fetched."
                " Download the image yourself and pass the file."
            )
    return addresses


def is_public_address(address: str) -> bool:
    """Say whether an IP address is on the public internet (not private, loopback, link-local, reserved, tunnelled)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public_address(str(ip.ipv4_mapped))
        if any(ip in network for network in _TUNNELS):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _fetch_once(url: str) -> bytes | str:
    """Return the content at an address, or the address that it redirects to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"Image address {url!r} is not understood; expected http:// or https:// and a host.")
    connection = _connect(parts)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "hf-mner"})
        return _read_answer(connection.getresponse(), url)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"Image address {url!r} cannot be fetched ({error}); check it, or pass a file.") from error
    finally:
        connection.close()


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    host, is_tls = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    address = resolve_public_addresses(host, port)[0]
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        plain = socket.create_connection((address, port), timeout=TIMEOUT_S)
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if is_tls else plain
    except OSError as error:
        raise ValueError(f"Image host {host!r} does not answer ({error}); try later, or pass a file.") from error
    return connection


def _read_answer(answer: http.client.HTTPResponse, url: str) -> bytes | str:
    location = answer.getheader("Location")
    if answer.status in (301, 302, 303, 307, 308) and location:
        return location
    if answer.status != 200:
        raise ValueError(f"Image address {url!r} answers {answer.status} {answer.reason}; expected 200.")
    content = answer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"Image address {url!r} holds more than {MAX_BYTES:,} bytes; shrink the image.")
    return content
