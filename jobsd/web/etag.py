"""ETags: whether a client has this very answer, and whether what it wants to change is still what it saw.

A tag is the hash of the answer, behind the version of what it tells of where that has one: `"7-3fa1…"`. A change names
the tag it was shown in `If-Match`; only the version in it counts then, so that mere progress makes no tag old.
"""

import hashlib
import re

from aiohttp import web

from jobsd.web.errors import refused

_VERSION = re.compile(r'"(\d{1,9})-[0-9a-f]{16}"')
TAG = r'^(\*|"[0-9]{1,9}-[0-9a-f]{16}")$'  # what `If-Match` may be


def tag_of(body: bytes, version: int | None = None) -> str:
    """The tag of an answer."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return f'"{digest}"' if version is None else f'"{version}-{digest}"'


def has_it(request: web.Request, tag: str) -> bool:
    """Whether `If-None-Match` names this tag."""
    given = ",".join(request.headers.getall("If-None-Match", []))
    return given.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in given.split(","))


def expected_version(request: web.Request) -> int | None:
    """The version that `If-Match` names; None when any will do. Raises 412 for a tag that no run ever had."""
    given = request.headers.getall("If-Match", [])
    if not given or [each.strip() for each in given] == ["*"]:
        return None
    match = _VERSION.fullmatch(given[0].strip()) if len(given) == 1 else None
    if match is None:
        raise refused(412, "E0413", f"If-Match: expected one ETag of the run, got {', '.join(given)[:200]}")
    return int(match[1])
