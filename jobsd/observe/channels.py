"""Where alerts are told: the log always, and whatever Apprise knows (mail, chat, webhooks). How often is the alerter's.

Apprise is synchronous and slow to import, so each message goes out in a thread of its own with a deadline.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from jobsd.domain.alert import LOG, AlertMessage, Channel
from jobsd.domain.destination import NotAllowed, host_of
from jobsd.observe.message import body_of, title_of
from jobsd.observe.outgoing import kept_to
from jobsd.observe.redact import Redactor
from jobsd.registry.settings import AlertSettings

PER_MINUTE = 6  # messages that a person is asked to read
DEADLINE_S = 25.0


class ChannelError(Exception):
    """A message was not delivered; worded for the log."""


class LogChannel:
    """The log: a line for each alert, named for its type in lower case."""

    name = LOG
    per_minute = None

    async def send(self, alerts: Sequence[AlertMessage]) -> None:
        log = structlog.get_logger()
        for alert in alerts:
            log.error(
                alert.type.lower(),
                alert=alert.type,
                job=alert.job,
                run=alert.run,
                summary=alert.summary,
                count=alert.count,
                new=alert.new,
                first_at=alert.first_at.isoformat(),
                last_at=alert.last_at.isoformat(),
                owner=alert.owner or None,
                on_failure=alert.on_failure or None,
                fingerprint=alert.fingerprint,
            )


class AppriseChannel:
    """One Apprise URL. Certificates are always verified, redirects never followed, connections kept to (`outgoing`)."""

    per_minute = PER_MINUTE

    def __init__(
        self, name: str, url: str, redactor: Redactor, *, allow: Sequence[str] = (), deadline_s: float = DEADLINE_S
    ) -> None:
        self.name = name
        self._url = url
        self._allow = allow
        self._redactor = redactor
        self._deadline_s = deadline_s
        self._busy = threading.Lock()
        self._plugin: Any = None

    async def send(self, alerts: Sequence[AlertMessage]) -> None:
        """Raises `ChannelError` when it failed or took too long; a message that hangs keeps the next one waiting."""
        title, body = self._redactor.text(title_of(alerts)), self._redactor.text(body_of(alerts))
        if not self._busy.acquire(blocking=False):
            raise ChannelError("an earlier message still hangs")
        try:
            async with asyncio.timeout(self._deadline_s):
                await in_thread(lambda: self._notify(title, body), self._busy.release, f"channel {self.name}")
        except TimeoutError:
            raise ChannelError(f"no answer within {self._deadline_s:g} s") from None

    def _notify(self, title: str, body: str) -> None:
        if self._plugin is None:
            self._plugin = plugin_of(self._url)
        try:
            with _said() as lines, kept_to(host_of(self._url), self._allow):
                delivered = self._plugin.notify(body=body, title=title, notify_type="failure", body_format="text")
        except NotAllowed as refused:
            raise ChannelError(str(refused)) from None
        if not delivered:
            raise ChannelError(self._redactor.text("; ".join(lines)) or "not delivered; the service did not say why")


def plugin_of(url: str) -> Any:
    """What Apprise makes of a URL. Raises `ChannelError` if it cannot be used; it never repeats the URL."""
    with _said() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its plug-ins import what newer Pythons warn of
        import apprise  # noqa: PLC0415 - takes a third of a second

        plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if not plugin:
        scheme = url.partition("://")[0]
        raise ChannelError(f'Apprise cannot use this "{scheme}://" URL' + (" (see its documentation)" if lines else ""))
    if not getattr(plugin, "verify_certificate", True):
        raise ChannelError("verify=no is not allowed: an unverified server could read the alerts")
    plugin.redirects = False
    return plugin


async def in_thread(work: Callable[[], None], done: Callable[[], None], name: str) -> None:
    """Run `work` in a daemon thread: one that hangs never keeps the process from exiting. `done` always runs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(None) if error is None else ended.set_exception(error)

    def body() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # a plug-in's SystemExit must not be lost either
            error = raised if isinstance(raised, Exception) else ChannelError(repr(raised))
        finally:
            done()
        try:
            loop.call_soon_threadsafe(end, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    try:
        threading.Thread(target=body, name=name, daemon=True).start()
    except RuntimeError:  # no thread is to be had just now
        done()
        raise
    await ended


class _Said(logging.Handler):
    """Keeps what a library logs in one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


@contextmanager
def _said() -> Iterator[list[str]]:
    """What Apprise has to say about a failure: it returns False and logs the reason."""
    logger, said = logging.getLogger("apprise"), _Said()
    logger.propagate = False  # the alerter tells of failures
    logger.addHandler(said)
    try:
        yield said.lines
    finally:
        logger.removeHandler(said)


def build(settings: AlertSettings, redactor: Redactor) -> list[Channel]:
    """The log's channel and those of the settings."""
    named = {name: channel for name, channel in settings.channels.items() if name != LOG}
    made = (AppriseChannel(n, c.url.get_secret_value(), redactor, allow=c.allow) for n, c in named.items())
    return [LogChannel(), *made]


def check(settings: AlertSettings) -> Mapping[str, str]:
    """What is wrong with the channels, by name. Slow: it loads Apprise."""
    wrong = {}
    for name, channel in settings.channels.items():
        try:
            plugin_of(channel.url.get_secret_value())
        except ChannelError as error:
            wrong[name] = str(error)
    return wrong
