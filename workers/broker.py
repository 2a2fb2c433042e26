"""Makes the broker of this worker program. Tuned so that a killed worker's job is taken over within half a minute."""

from __future__ import annotations

from typing import Final

from dramatiq import Broker
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware, Settings, broker_client, load

#: Dramatiq does not expect redis-py's time-outs: one while acknowledging lets the job run twice (Bogdanp/dramatiq#894).
TIMEOUT_SECONDS: Final = 30
#: With growing pauses, some five seconds: a Redis that is started again is waited for.
RETRIES: Final = 12
#: Every command of a worker is a sign of life, and it polls about once a second. It is taken for dead after its watchers were
#: told that it is silent (`stalled`, 15 s and the sweep), and not before: a pause of ten seconds must not run a job twice.
HEARTBEAT_MS: Final = 20_000
#: In a million: how likely a poll also looks for dead workers. At Dramatiq's 1,000 a takeover takes ten minutes.
MAINTENANCE_CHANCE: Final = 300_000


def settings_or_exit() -> Settings:
    """The settings from the environment; SystemExit with one line, and no traceback, where they do not do."""
    try:
        settings = load()
        if settings.redis_url is None:
            raise ValueError(
                "PROGRESS_STREAM_REDIS_URL: is not set (allowed: such as redis://localhost:6379/0)"
            )
    except ValueError as error:
        raise SystemExit(f"workers: {error}") from None
    return settings


def make_broker(settings: Settings) -> Broker:
    """A broker that reports progress. Does not connect yet."""
    url = str(settings.effective_broker_url)
    broker = _rabbitmq(url) if url.startswith(("amqp://", "amqps://")) else _redis(settings)
    broker.add_middleware(ProgressMiddleware(settings))
    return broker


def _rabbitmq(url: str) -> Broker:
    """It gives a dead worker's messages to another at once, by itself."""
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    return RabbitmqBroker(url=url, confirm_delivery=True)


def _redis(settings: Settings) -> Broker:
    return RedisBroker(  # type: ignore[no-untyped-call]
        client=broker_client(settings, timeout_seconds=TIMEOUT_SECONDS, retries=RETRIES),
        namespace=settings.broker_namespace,
        heartbeat_timeout=HEARTBEAT_MS,
        maintenance_chance=MAINTENANCE_CHANCE,
    )
