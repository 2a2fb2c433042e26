"""What every command says to a person: one-line ends, and text from strangers that cannot command a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, Final, NoReturn

#: Exit codes. 130 (interrupted) is the shell's own convention, 141 what it shows for a closed pipe.
SUCCEEDED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CANCELLED: Final = 3
NOT_ALLOWED: Final = 4
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

# A log line may come from anybody's file. C0, DEL and C1 hold every terminal command (ESC, CSI as one character), the
# bidirectional controls reorder what is read, and a lone surrogate cannot be written at all.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """One line that only shows: what would do something else is written as its code."""
    return _UNSAFE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def json_line(value: dict[str, Any]) -> str:
    """JSON on one line that a terminal may show as well: the same characters, as JSON's own escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def note(text: str) -> None:
    """One line for the person, beside the output."""
    print(f"progress-stream: {printable(text)}", file=sys.stderr, flush=True)


def fail(text: str, code: int) -> NoReturn:
    """Ends the command with one line."""
    note(text)
    raise SystemExit(code)


def pipe_closed() -> NoReturn:
    """Ends the command because whoever read its output has gone (`| head`)."""
    # At its exit Python would try to write the rest once more, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(PIPE_CLOSED)
