"""What can go wrong between command and daemon, in words: what it refuses, and when it does not answer at all."""

import getpass
import socket
from collections.abc import Mapping
from typing import Any

from jobsd.cli.address import Address
from jobsd.domain.codes import CODES
from jobsd.domain.errors import Exit, JobsdError, Place, Problem, problem

EXITS: Mapping[int, Exit] = {
    400: Exit.USAGE,
    401: Exit.PERMISSION,
    403: Exit.PERMISSION,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    413: Exit.USAGE,
    415: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.UNREACHABLE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}


def rejected(status: int, document: Mapping[str, Any], at: str) -> JobsdError:
    """An RFC 9457 problem document as the error that it tells of: same code, same text, same ways out."""
    listed = [entry for entry in document.get("errors") or () if isinstance(entry, Mapping)]
    found = [_problem(entry, document, status) for entry in listed] or [_problem(document, document, status)]
    if (hint := document.get("hint")) and not any(hint in one.hints for one in found):
        last = found[-1]
        found[-1] = Problem(last.code, last.message, last.place, last.note, (*last.hints, *str(hint).split("\n")))
    of_file = all(one.code.startswith("E02") for one in found)  # a configuration that the daemon would not take up
    exit_code = Exit.CONFIGURATION if of_file else EXITS.get(status, Exit.FAILED)
    return JobsdError(tuple(found), exit_code, {"status": status, "at": at, **document})


def _problem(entry: Mapping[str, Any], document: Mapping[str, Any], status: int) -> Problem:
    code = str(entry.get("code") or document.get("code") or "")
    words = str(entry.get("message") or entry.get("detail") or document.get("detail") or document.get("title") or "")
    if code not in CODES:  # a daemon newer than this command
        words, code = f"{words or 'the daemon refused'} ({code or f'HTTP {status}'})", "E0507"
    hints = entry.get("hints") or ()
    return Problem(code, words or CODES[code], _place(entry.get("place")), str(entry.get("note") or ""), tuple(hints))


def _place(place: object) -> Place | None:
    if not isinstance(place, Mapping) or "file" not in place:
        return None
    return Place(**{key: place[key] for key in ("file", "line", "column", "text", "width") if key in place})


def unreachable(address: Address, error: Exception) -> JobsdError:
    """Nobody answers, or not in time."""
    return problem(
        "E0403",
        f"the daemon at {address} does not answer: {reason(error)}",
        "is it running?  systemctl status jobsd    start one: jobsd dev, or: jobsd serve",
        exit_code=Exit.UNREACHABLE,
    )


def reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def refused_socket(address: Address) -> JobsdError:
    """The file system keeps this user from the socket."""
    return problem(
        "E0404",
        f"{getpass.getuser()} may not open the socket {address}: permission denied",
        "join the group that the socket belongs to, or use: sudo jobsd …, or: --url with JOBSD_TOKEN",
        exit_code=Exit.PERMISSION,
    )


def not_jobsd(address: Address, status: int, kind: str) -> JobsdError:
    """An answer that is no JSON. One too many is turned away by the daemon, or by a proxy before it, without words."""
    if status in (502, 503, 504):
        return unreachable(address, ConnectionError(f"HTTP {status}, try again"))
    return problem(
        "E0403",
        f"what answers at {address} is not jobsd: HTTP {status}, {kind}",
        "check --url, JOBSD_URL or JOBSD_SOCKET",
        exit_code=Exit.UNREACHABLE,
    )
