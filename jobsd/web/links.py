"""Lists as answers: the page, and the address of the next one in a `Link` header."""

from typing import Any

from aiohttp import web

from jobsd.operations.pages import Page
from jobsd.web.deps import answer


def paged(request: web.Request, page: Page[Any]) -> web.Response:
    """The page as JSON; with `Link: <…>; rel="next"` when there are more."""
    headers = {}
    if page.cursor is not None:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=page.cursor)}>; rel="next"'
    return answer(request, page, headers=headers)
