"""What to set, for each fault and each thing that is known to make it. Data; the sources are in docs/doctor.md."""

from __future__ import annotations

from typing import Final

#: Of each fault: (what stands between, what to set there), the likeliest first.
MENDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "compression": (
        ("nginx", "gzip off; (and brotli off;) in the location of the streams, or text/event-stream out of gzip_types"),
        ("Apache", "SetEnvIf Request_URI /events$ no-gzip=1"),
        ("Traefik", "compress: excludedContentTypes: text/event-stream"),
        ("Caddy", "encode: not on the path of the streams"),
        ("a CDN", "no compression for text/event-stream"),
    ),
    "buffering": (
        (
            "nginx",
            "proxy_buffering off; proxy_http_version 1.1; no proxy_ignore_headers X-Accel-Buffering;"
            " where one nginx is behind another: proxy_pass_header X-Accel-Buffering; in the inner one",
        ),
        ("Apache", "ProxyPass … flushpackets=on"),
        ("Azure", "Application Gateway: response buffer off; API Management: forward-request buffer-response=\"false\""),
        ("AWS API Gateway", "REST API, response transfer mode STREAM"),
        ("a virus scanner", "exempt the server's address: it reads an answer to its end first"),
        ("anything else", "clients of ours go to long-polling by themselves; or PROGRESS_STREAM_STREAMING=false"),
    ),
    "delay": (
        ("HAProxy", "option http-no-delay (in the frontend and the backend, or in defaults): without it 200 ms an event"),
        ("nginx", "tcp_nodelay on; proxy_buffering off;"),
        ("anything else", "TCP_NODELAY on both sides"),
    ),
    "idle": (
        ("HAProxy", "timeout server 60s and timeout client 60s or more (timeout tunnel does not count here)"),
        ("nginx", "proxy_read_timeout 60s; or more"),
        ("AWS", "ALB: idle timeout 60 s or more; CloudFront: origin response timeout 30 s or more"),
        ("Azure", "idle and request time-outs of 60 s or more"),
        ("Apache", "ProxyTimeout 60"),
        ("the server", "PROGRESS_STREAM_HEARTBEAT_SECONDS below the time after which it cuts"),
    ),
    "long": (
        ("Envoy", "route timeout: 0s (15 s for a whole answer by default); Gateway API: timeouts.request: 0s"),
        ("Google Cloud", "backend service timeout of an hour or more (30 s for a whole answer by default)"),
        ("AWS", "API Gateway: 15 minutes at most; CloudFront: no response completion timeout"),
        ("HAProxy", "no http-request timeout or lua action that ends an answer; timeout server and client as above"),
        ("a proxy of your own", "no limit on the whole time of an answer, only on the time without a byte"),
        (
            "anything else",
            "nothing is lost: clients come back where they were; PROGRESS_STREAM_STREAM_SECONDS below it makes the ends clean",
        ),
    ),
    "last-event-id": (
        ("a CDN", "let the headers Last-Event-ID and Authorization pass (CloudFront: origin request policy AllViewer)"),
        ("nginx", "no proxy_set_header Last-Event-ID \"\"; else proxy_set_header Last-Event-ID $http_last_event_id;"),
        ("HAProxy", "no http-request del-header Last-Event-ID"),
        ("an own client", "?last_event_id= in the URL, as our clients do when they make a new connection"),
    ),
    "headers": (
        ("anything", "pass Content-Type and Cache-Control: no-store, no-transform on as they are"),
    ),
    "answer": (
        ("anything", "let GET /jobs/<id>/events through, with its Authorization header, to the server"),
    ),
}  # fmt: skip


def mends_of(fault: str, named: str) -> list[tuple[str, str]]:
    """What names itself in the answer's headers first."""
    known = MENDS.get(fault, ())
    return sorted(known, key=lambda mend: mend[0].lower() not in named.lower())
