"""Which characters a file is made of: found from its bytes, and kept, so that what is written reads like what came.

Bytes that the charset does not know pass through unchanged (as lone surrogates, PEP 383), so a wrong guess among the
eight-bit charsets costs nothing but the names of columns. Knows nothing of CSV.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from dataclasses import dataclass
from typing import BinaryIO, Final

import charset_normalizer

#: Enough for any guess, and read in one go.
SAMPLE_BYTES: Final = 65_536
#: A longer line is no table; it bounds what is held in memory at once.
LINE_CHARS: Final = 10_000_000

# The longer marks first: UTF-32's begins like UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF8, "utf-8", "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)
#: What a guess may choose: charsets of other scripts. Between the Latin ones a guess on a list of names is a coin toss
#: (tried: French and German names were taken for cp1250 and cp857), and Windows-1252 is what Excel writes.
_OTHER_SCRIPTS: Final = ("cp1251", "cp1253", "cp1255", "cp932", "gb18030", "cp949", "big5")
#: Where HTTP's name (IANA) is not Python's.
_LABELS: Final = {
    "cp1252": "windows-1252",
    "cp1251": "windows-1251",
    "cp1253": "windows-1253",
    "cp1255": "windows-1255",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
}
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_WIDE: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")
_ERRORS: Final = "workers.keep-or-replace"


@dataclass(frozen=True, slots=True)
class Charset:
    """A Python codec, the byte order mark that the file began with, and the name that HTTP knows."""

    codec: str
    label: str
    mark: bytes = b""

    def text(self, file: BinaryIO) -> io.TextIOWrapper:
        """The file from its first character on, its line ends untouched."""
        file.seek(len(self.mark))
        return io.TextIOWrapper(file, self.codec, self._reading, newline="")

    def sample(self, head: bytes) -> str:
        """The text of a file's beginning, which may end within a character."""
        return codecs.getincrementaldecoder(self.codec)(self._reading).decode(head[len(self.mark) :])

    def encode(self, text: str) -> bytes:
        """Never fails: what the charset does not hold is written as near as it can be."""
        return text.encode(self.codec, "surrogatepass" if self._paired else _ERRORS)

    def fit(self, text: str) -> str:
        """The text as it will look once it is written."""
        return self.encode(text).decode(self.codec, self._reading)

    @property
    def _paired(self) -> bool:
        return self.codec.startswith(("utf-16", "utf-32"))

    @property
    def _reading(self) -> str:
        return "surrogatepass" if self._paired else "surrogateescape"


def charset_of(file: BinaryIO) -> Charset:
    """The charset of a file, from its mark or else from all of its bytes."""
    file.seek(0)
    head = file.read(SAMPLE_BYTES)
    for mark, codec, label in _MARKS:
        if head.startswith(mark):
            return Charset(codec, label, mark)
    return _unmarked_utf16(head) or _utf8(file) or _eight_bit(head)


def _unmarked_utf16(head: bytes) -> Charset | None:
    """Western text in UTF-16 has a zero in every second byte."""
    pairs = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / pairs, head[1::2].count(0) / pairs
    if odd > 0.4 and even < 0.05:
        return Charset("utf-16-le", "utf-16le")
    if even > 0.4 and odd < 0.05:
        return Charset("utf-16-be", "utf-16be")
    return None


def _utf8(file: BinaryIO) -> Charset | None:
    """UTF-8, if all of the file is, or nearly: one broken byte in an export does not make it Windows-1252."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    broken = wide = 0
    while chunk := file.read(1 << 20):
        text = decoder.decode(chunk)
        if not text.isascii():
            broken += len(_ESCAPED.findall(text))
            wide += len(_WIDE.findall(text))
    broken += len(decoder.decode(b"", final=True))
    return Charset("utf-8", "utf-8") if wide >= broken else None


def _eight_bit(head: bytes) -> Charset:
    guess = charset_normalizer.from_bytes(head, cp_isolation=list(_OTHER_SCRIPTS)).best()
    # Coherence counts letters in the order of a language: none means that any charset would have done.
    codec = guess.encoding if guess is not None and guess.coherence > 0 else "cp1252"
    return Charset(codec, _LABELS.get(codec, codec))


def _keep_or_replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character that the charset lacks: a byte of the file as it came, a letter without its accent, or `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    if "\udc80" <= char <= "\udcff":
        return bytes([ord(char) - 0xDC00]), error.start + 1
    plain = "".join(part for part in unicodedata.normalize("NFKD", char) if part.isascii())
    return plain or "?", error.start + 1


codecs.register_error(_ERRORS, _keep_or_replace)
