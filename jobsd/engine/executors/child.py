"""The start of a handler's own process: `python -P child.py REQUEST ANSWERS JOB`, both numbers of open descriptors.

Only the standard library until the daemon's module path is known; the work is done in `inside`.
"""

import faulthandler
import json
import os
import sys
from io import TextIOWrapper


def main() -> None:
    request_fd, answers_fd = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(answers_fd, False)
    faulthandler.enable()  # a crash in native code shows where
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # what was said is kept, whatever comes
    with open(request_fd, "rb") as file:
        request = json.load(file)
    sys.path[:] = request["path"]
    from jobsd.engine.executors import inside  # noqa: PLC0415  # only now can it be found

    sys.exit(inside.run(request, answers_fd))


if __name__ == "__main__":
    main()
