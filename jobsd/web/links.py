"""Lists as answers: the page, and the address of the next one in a `Link` header."""

from typing import Any

from aiohttp import web

from jobsd.operations.pages import Page
from jobsd.web.deps import answer


def paged(request: web.Request, page: Page[Any], total: str | None = None) -> web.Response:
    """The page as JSON; with `Link: <…>; rel="next"` when there are more, and with `X-Total` when it was asked for."""
    headers = {} if total is None else {"X-Total": total}
    if page.cursor is not None:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=page.cursor)}>; rel="next"'
    return answer(request, page, headers=headers)
