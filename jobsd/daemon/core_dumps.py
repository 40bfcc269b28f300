"""No core dump of the daemon or of what it starts: memory holds the secrets that logs, API and database do not."""

import resource


def forbid() -> None:
    """For this process and those to come; a job that wants its own may raise the limit again, as far as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
