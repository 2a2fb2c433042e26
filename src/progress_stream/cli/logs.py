"""Logs of a server process: one line an event on standard error, JSON where nobody looks, and never a token."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_HIDDEN: Final = "…"
# A JWT, a ticket, a token in a URL, an Authorization header, a password in a URL.
_SECRETS: Final = (
    # From where the word begins, and only where two dots follow: to begin anew at each of a stranger's thousand `eyJ` would take
    # the square of his line's length.
    (re.compile(r"(?<![\w-])(?=[\w-]+\.[\w-]+\.)[\w-]*?eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), _HIDDEN),
    (re.compile(r"\bpst_[\w-]+"), _HIDDEN),
    (re.compile(r"((?:^|[?&\s\"'])token=)[^&\s\"']+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"(\bbearer\s+)[^\s\"',]+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"(://[^\s/@:]*:)[^\s/@]+(?=@)"), rf"\1{_HIDDEN}"),
)


def hide_secrets(text: str) -> str:
    """The text without what would let its reader in."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _without_secrets(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    return {name: _hidden(value) for name, value in entry.items()}


def _hidden(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return hide_secrets(value if isinstance(value, str) else str(value))


def configure() -> None:
    """Send structlog's and the standard library's records the same way. For a process of ours, never for a library."""
    pretty = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Formatted here, for a renderer's own traceback shows local variables.
        structlog.processors.format_exc_info,
        _without_secrets,
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
