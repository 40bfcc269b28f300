"""One connection's requests. What is no HTTP never reaches the application, so its refusal is worded here."""

from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from jobsd.observe.redact import Redactor
from jobsd.web.errors import answer_to, refused
from jobsd.web.headers import HEADERS

SHOWN = 200  # characters of the parser's words


class Connection(RequestHandler):
    """aiohttp's own, but for the answers to what it could not read: like all others, and with no version in them."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Raises `ConnectionError` when an answer has begun."""
        super().handle_error(request, status, exc, message)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            why = refused(status, "E0507", (message or HTTPStatus(status).phrase).strip()[:SHOWN])
        else:
            why = refused(status, "E0512", "the daemon made a mistake")
        answer = answer_to(why, request.path, Redactor())
        answer.headers.update(HEADERS)
        answer.force_close()
        return answer
