"""Keeps secrets out of what is written and sent: known values wherever they stand, and whatever a key names as secret.

A value shorter than `SHORTEST` is masked only inside a URL or behind such a key: masking every "app" helps nobody.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from jobsd.registry.settings import Settings

MASK = "***"
SHORTEST = 6
DEPTH = 8  # of nested fields; what lies deeper is masked whole
LONGEST = 16_000  # characters of one field that are looked at; the rest is cut off

_NAMES = r"(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|private[_-]?key|authorization|cookie|dsn)"
_SECRET_KEY = re.compile(rf"{_NAMES}s?(?:$|[_.-])|(?:database|direct)_url$", re.IGNORECASE)
_ACTORS = frozenset({"actor", "created_by", "disabled_by", "revoked_by"})
_ACTOR = re.compile(r"(?:token|unix|sql|node|signal):[\w.@-]{1,200}")  # "token:ci" is a name, and no secret
_HINT = re.compile(
    "://|jobsd_|pass|secret|token|key|authoriz|cookie|dsn|bearer", re.IGNORECASE
)  # without one, no look is needed
# Every repetition is bounded: the text may be a job's, long and made to be slow.
_IN_TEXT = re.compile(
    rf"""(?P<url>\b[a-z][a-z0-9+.-]{{0,20}}://[^\s/:@'"]{{0,100}}:)[^\s/@'"]{{1,500}}(?=@)"""
    r"""|(?P<ours>\bjobsd_)[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"""
    rf"""|(?P<auth>authorization["']?\s{{0,3}}[=:]\s{{0,3}}["']?(?:(?:bearer|basic|token|digest)\s)?)[^\s"',;}}\])]{{1,2000}}"""
    rf"""|(?P<bearer>\bbearer\s{{1,3}})[\w.~+/=-]{{16,2000}}"""
    rf"""|(?P<key>(?<!\bby )\b[\w-]{{0,20}}{_NAMES}["']?\s{{0,3}}[=:]\s{{0,3}})"""
    r"""(?:"[^"\n]{1,500}"|'[^'\n]{1,500}'|[^\s"',;&}\])]{1,2000})""",
    re.IGNORECASE,
)


class Redactor:
    """Masks secrets in text and in fields. Values may be added at any time, e.g. with a reload."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self._longest_first: list[str] = []
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """Mask these from now on, also where they stand quoted for a URL or as a Python literal."""
        for value in values:
            forms = {value, quote(value, safe=""), quote(value), unquote(value), repr(value)[1:-1]}
            self._values |= {form for form in forms if len(form) >= SHORTEST}
        self._longest_first = sorted(self._values, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, self._longest_first))) if self._values else None

    def text(self, text: str) -> str:
        """`text` with `***` for every secret in it."""
        if self._known:
            text = self._known.sub(MASK, text)
        return _IN_TEXT.sub(_masked, text) if _HINT.search(text) else text

    def known(self, text: str) -> str:
        """`text` with `***` for every value that is known to be a secret; what only looks like one stays. Fast."""
        for value in self._longest_first:
            text = text.replace(value, MASK)
        return text

    def fields(self, fields: Mapping[str, Any], depth: int = DEPTH) -> dict[str, Any]:
        """A copy of nested fields with every secret masked; keys count as text as well."""
        return {
            (key if _is_plain(key) else self.text(str(key))): (
                MASK if _is_secret(key, value) else value if _is_actor(key, value) else self._value(value, depth)
            )
            for key, value in fields.items()
        }

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value[:LONGEST])
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if depth == 0:
            return MASK
        if isinstance(value, Mapping):
            return self.fields(value, depth - 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(each, depth - 1) for each in value]
        return self.text(str(value)[:LONGEST])


@lru_cache(maxsize=1024)
def _is_plain(key: object) -> bool:
    """Whether a key is a short word as our own are, which needs no look."""
    return isinstance(key, str) and len(key) <= 20 and key.isidentifier()


@lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _is_secret(key: object, value: object) -> bool:
    """Whether the key says so. A number is none: `total_tokens = 120` is a count."""
    return bool(value) and not isinstance(value, (bool, int, float)) and _names_a_secret(str(key))


def _is_actor(key: object, value: object) -> bool:
    return key in _ACTORS and isinstance(value, str) and _ACTOR.fullmatch(value) is not None


def _masked(found: re.Match[str]) -> str:
    return f"{found['url'] or found['ours'] or found['auth'] or found['bearer'] or found['key']}{MASK}"


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> set[str]:
    """Every secret value that the settings and the environment hold: whole URLs, their passwords and tokens."""
    urls = [environ.get("DATABASE_URL", "")]
    urls += [url.get_secret_value() for url in (settings.database.url, settings.database.direct_url) if url]
    channels = [channel.url.get_secret_value() for channel in settings.alerts.channels.values()]
    named = {value for key, value in environ.items() if _SECRET_KEY.search(key)}
    found = {part for url in urls for part in _password_of(url)}
    found |= {part for url in channels for part in (url, *_password_of(url), *_tokens_of(url))}
    return {value for value in found | named if value}


def _password_of(url: str) -> set[str]:
    """The password of a URL, or of a libpq string such as "host=db password=x"."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    given = {parts.password or "", *re.findall(r"\bpassword\s*=\s*'?([^'\s&]+)", url)}
    return {form for value in given for form in (value, unquote(value))}


def _tokens_of(url: str) -> set[str]:
    """The parts of a channel's URL that are keys to it: long ones of host, user, path and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    host = parts.netloc.rpartition("@")[2]
    hidden = [] if "." in host or ":" in host or host == "localhost" else [host]
    values = [parts.username or "", *hidden, *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    return {value for value in values if len(value) >= 8}
