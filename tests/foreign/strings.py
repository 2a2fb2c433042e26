"""Strings that break what is built on lines, on C strings or on UTF-8; as they are, and as any text around them."""

from typing import Final

from hypothesis import strategies as st

#: What UTF-8 cannot hold: refused.
LONE_SURROGATES: Final = {
    "high": "a\ud800b",
    "low": "\udc00",
    "reversed pair": "\udfff\ud800",
    "at the end": "x" * 100 + "\ud83d",
}

#: What must arrive as it is.
HOSTILE: Final = {
    "empty": "",
    "LF": "a\nb",
    "CR": "a\rb",
    "CRLF": "a\r\nb",
    "blank lines": "\n\n\r\r\r\n\r\n",
    "trailing LF": "a\n",
    "NUL": "a\0b",
    "only NUL": "\0",
    "NEL": "a\x85b",
    "LS and PS": "a\u2028b\u2029c",
    "all that str.splitlines splits at": "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i",
    "a BOM at the start": "\ufeffa",
    "BOMs": "\ufeff\ufeff",
    "spaces at the start": "   a",
    "a space": " ",
    "colons": "::: a: b",
    "a comment": ": comment",
    "a field": "data: a",
    "an event": "\n\nevent: succeeded\nid: 9-9\ndata: {}\n\n",
    "an id": "a\nid: 18446744073709551615-1\n",
    "a retry": "\r\nretry: 0\r\n\r\n",
    "a chunk": "\r\n0\r\n\r\n",
    "emoji": "😀👩‍👩‍👧🏳️‍🌈",
    "the last code point": "\U0010ffff",
    "not characters": "\ufffe\uffff",
    "replacement characters": "\ufffd",
    "right to left": "\u202eabc\u202c שלום",
    "combining": "e\u0301\u0301\u0301",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x9f",
    "quotes and backslashes": "\"'\\\\\"\\u0000\\n",
    "a script": "</script><!--",
    "an escape that is none": "\\u2028 \\ud800",
    "a bell and colours": "\x07\x1b[31mred",
}  # fmt: skip

#: As long as an event's data may be, with room for its other fields.
LONG: Final = {"64 KiB": "x" * 65_000, "64 KiB of emoji": "😀" * 16_000}

_SHARP: Final = '\n\r\0\x85\u2028\u2029\ufeff :\x0b\x0c\x1c\x1b"\\'

#: Any text, and more than chance would give of what hurts.
TEXT: Final = st.text(st.sampled_from(_SHARP) | st.characters(exclude_categories=["Cs"]), max_size=60)
#: The same with lone surrogates among it.
ANY_TEXT: Final = st.text(st.sampled_from(_SHARP + "\ud800\udfff") | st.characters(), max_size=60)
