"""Characters that steer a terminal, or turn the direction of text, made visible: what a job says is not to be trusted.

Control characters of ASCII and Latin-1 (ESC, CR, BEL, CSI), line separators, marks of direction, the byte order mark.
"""

import re

_BEYOND_ASCII = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
CONTROL = re.compile(f"[\x00-\x1f{_BEYOND_ASCII}]")
IN_JSON = re.compile(f"[{_BEYOND_ASCII}]")  # those that JSON's writers leave as they are
IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_BEYOND_ASCII}]")  # all but newline and tab


def visible(text: str, steering: re.Pattern[str] = CONTROL) -> str:
    """`text` with each of the `steering` characters as `\\x1b`, or `\\u202e`."""
    return steering.sub(lambda found: _name(ord(found[0])), text)


def in_json(text: str) -> str:
    """JSON text that says the same, with no such character in it."""
    return IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _name(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
