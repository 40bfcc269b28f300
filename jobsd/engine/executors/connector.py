"""Connections of HTTP jobs: a name is resolved once, what it leads to is checked, and no other address is used."""

from collections.abc import Sequence
from socket import AddressFamily

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from jobsd.domain.destination import NotAllowed, literal, refusal


def connector(allow: Sequence[str]) -> aiohttp.TCPConnector:
    """For one request by name. What is written as an address is not resolved: see `require_allowed`."""
    return aiohttp.TCPConnector(resolver=_Checked(allow), use_dns_cache=False)


def require_allowed(url: str, allow: Sequence[str]) -> None:
    """Raises `NotAllowed` for an address in the place of a name; `ValueError` for what is no URL at all."""
    host = URL(url).raw_host or ""
    if (address := literal(host)) and (kind := refusal(address, host, allow)):
        raise NotAllowed(host, address, kind)


class _Checked(AbstractResolver):
    """Leaves out the addresses where a request may not go. Raises `NotAllowed` when there is no other."""

    def __init__(self, allow: Sequence[str]) -> None:
        self._allow = allow
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        kinds = [refusal(one["host"], host, self._allow) for one in found]
        allowed = [one for one, kind in zip(found, kinds, strict=True) if kind is None]
        if found and not allowed:
            raise NotAllowed(host, found[0]["host"], kinds[0] or "")
        return allowed

    async def close(self) -> None:
        await self._system.close()
