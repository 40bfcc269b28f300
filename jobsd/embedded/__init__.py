"""The embedded PostgreSQL of `jobsd dev`, the demo and the tests: found, started and ended here.

A `Server` lives as long as the process that started it, however that one ends: `supervisor` sees to it. What the
database holds is `store`'s affair; this package knows nothing of the schema.
"""

from jobsd.embedded.binaries import installed
from jobsd.embedded.server import Server, server, start

__all__ = ["Server", "installed", "server", "start"]
