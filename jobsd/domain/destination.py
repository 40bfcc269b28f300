"""Where the daemon's own requests may go: HTTP jobs and alert channels. Pure; who connects asks here first.

A name may lead anywhere its owner says. So what a name leads to is judged by the address itself, and an address that
only this machine or its network segment can reach is refused unless the configuration names it: by writing it as the
URL's host (loopback alone), or in the `allow` beside the URL.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

Address = IPv4Address | IPv6Address

# Instance metadata that is not link-local: AWS, Google, Alibaba, Oracle, Azure
METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
NAT64 = IPv6Network("64:ff9b::/96")


def parse_network(text: str) -> str:
    """An address or network as it is written. Raises `ValueError`, worded for the file's author."""
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f'expected an address or a network, like "10.0.0.0/8", got "{text}"') from None
    return text


Network = Annotated[str, AfterValidator(parse_network)]


def refusal(address: str, host: str, allow: Iterable[str] = ()) -> str | None:
    """Why a request to `host` may not go to `address`, which it leads to: "a link-local address". None if it may."""
    meant = _meant(address)
    kind = next(_kinds(meant), None)
    if kind is None or any(meant in ip_network(network) for network in allow):
        return None
    return None if meant.is_loopback and names_this_machine(host) else kind


def names_this_machine(host: str) -> bool:
    """Whether a URL's host says in so many words that this machine is meant."""
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return True
    try:
        return _meant(bare).is_loopback
    except ValueError:
        return False


def literal(host: str) -> str | None:
    """The address that `host` is written as; None for a name."""
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


def host_of(url: str) -> str:
    """The host that a URL of any scheme names; "" where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _meant(address: str) -> Address:
    """The address itself: out of IPv6's wrappings, without a zone."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped or found.sixtofour:
            return found.ipv4_mapped or found.sixtofour or found
        if found in NAT64 or (int(found) >> 32 == 0 and int(found) > 1):
            return IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def _kinds(address: Address) -> Iterator[str]:
    """What a request is kept from; private networks are what a team's own jobs call, and are none of it."""
    if address in METADATA:
        yield "a cloud's metadata service"
    if address.is_link_local:
        yield "a link-local address"
    if address.is_loopback:
        yield "a loopback address"
    if address.is_multicast:
        yield "a multicast address"
    if address.is_unspecified or (isinstance(address, IPv4Address) and int(address) >> 24 == 0):
        yield "no host's address"
    if isinstance(address, IPv4Address) and address.is_reserved:
        yield "a reserved address"


class NotAllowed(Exception):
    """A request was not sent, because of where it would have gone; worded for whoever declared it."""

    def __init__(self, host: str, address: str, kind: str) -> None:
        leads = f'"{host}" is' if literal(host) else f'"{host}" leads to {address},'
        way_out = f'if it is meant: allow = ["{address}"] beside its url'
        super().__init__(f"E0229: {leads} {kind}, where no request may go; {way_out}")
