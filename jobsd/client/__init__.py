"""For programs that ask jobsd for runs: in SQL inside a transaction of their own, or over HTTP.

The asynchronous HTTP client is `jobsd.client.aio.AsyncHttpClient`, apart from the rest for what it imports.
"""

from jobsd.client.answers import NotOver, Refused, Unreachable
from jobsd.client.asks import Run
from jobsd.client.http import HttpClient
from jobsd.client.sql import enqueue, enqueue_many, enqueue_many_sync, enqueue_sync

__all__ = [
    "HttpClient",
    "NotOver",
    "Refused",
    "Run",
    "Unreachable",
    "enqueue",
    "enqueue_many",
    "enqueue_many_sync",
    "enqueue_sync",
]
