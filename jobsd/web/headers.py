"""What every answer says of itself: nobody may keep it, run it, frame it, or take it for something else."""

from collections.abc import Mapping

HEADERS: Mapping[str, str] = {
    "Server": "jobsd",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
