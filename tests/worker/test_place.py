"""Where the middleware stands, whoever adds what and when; and in which order Dramatiq's hooks come."""

from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, Middleware, Retries

from progress_stream import ProgressMiddleware
from progress_stream.settings import Settings
from tests.worker.conftest import Stack


def names(broker: dramatiq.Broker) -> list[str]:
    return [type(one).__name__ for one in broker.middleware]


def is_before_retries(broker: dramatiq.Broker) -> bool:
    found = names(broker)
    return found.index("ProgressMiddleware") == found.index("Retries") - 1


def test_it_moves_before_retries_when_an_actor_is_declared() -> None:
    """`add_middleware` appends, which would make our after-hooks run before Retries has decided."""
    broker = StubBroker()
    broker.add_middleware(ProgressMiddleware(redis_url=None))
    assert "ProgressMiddleware" == names(broker)[-1]

    @dramatiq.actor(broker=broker, progress=True)
    def idle() -> None: ...

    assert is_before_retries(broker)
    assert len(StubBroker().middleware) + 1 == len(broker.middleware)


def test_it_moves_at_once_when_actors_are_there_already() -> None:
    """Added late, it is told of them while it is added."""
    broker = StubBroker()

    @dramatiq.actor(broker=broker)
    def idle() -> None: ...

    broker.add_middleware(ProgressMiddleware(redis_url=None))

    assert is_before_retries(broker)


def test_it_moves_when_retries_is_added_after_it(settings: Settings) -> None:
    """The first message that is sent or worked on puts it right."""
    broker = StubBroker(middleware=[])
    broker.add_middleware(CurrentMessage())
    broker.add_middleware(Retries())
    broker.add_middleware(ProgressMiddleware(redis_url=None))
    broker.declare_queue("default")
    broker.enqueue(dramatiq.Message("default", "x", (), {}, {}))

    assert ["CurrentMessage", "ProgressMiddleware", "Retries"] == names(broker)


def test_no_middleware_is_passed_over_while_it_moves() -> None:
    """Each one hears of the actor exactly once, also those around us."""
    heard: list[str] = []

    class Ear(Middleware):
        def __init__(self, name: str) -> None:
            self.name = name

        def before_declare_actor(self, broker: Any, actor: Any) -> None:
            heard.append(self.name)

    broker = StubBroker(middleware=[Ear("a"), Retries(), Ear("b")])
    broker.add_middleware(ProgressMiddleware(redis_url=None))
    broker.add_middleware(Ear("c"))

    @dramatiq.actor(broker=broker)
    def idle() -> None: ...

    assert ["a", "b", "c"] == heard


def test_dramatiq_calls_the_hooks_in_the_order_we_build_on(stack: Stack) -> None:
    """A retry's enqueue comes before our after-hook; Pipelines comes after it; the ack comes last."""
    order: list[str] = []

    class Spy(Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            order.append("enqueue the retry" if message.options.get("retries") else "enqueue")

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            order.append("after, before Retries" if self is late else "after Retries and ours")

        def before_ack(self, broker: Any, message: Any) -> None:
            if self is late:
                order.append("ack")

        def before_nack(self, broker: Any, message: Any) -> None:
            if self is late:
                order.append("nack")

    early, late = Spy(), Spy()
    late.before_enqueue = lambda *_: None  # type: ignore[method-assign]
    stack.broker.add_middleware(early, before=type(stack.broker.middleware[0]))
    stack.broker.add_middleware(late)
    inside = stack.middleware.after_process_message

    def ours(*args: Any, **kwargs: Any) -> None:
        order.append("ours")
        inside(*args, **kwargs)

    stack.middleware.after_process_message = ours  # type: ignore[method-assign]

    @stack.actor(max_retries=1)
    def fail() -> None:
        raise ValueError

    message = fail.send()
    stack.work()
    stack.ended(message.message_id)
    stack.broker.join("default")
    stack.stop()

    assert is_before_retries(stack.broker)
    attempt = ["after, before Retries", "enqueue the retry", "ours", "after Retries and ours", "ack"]
    assert ["enqueue", *attempt] == order[:6]
    assert ["after, before Retries", "ours", "after Retries and ours", "nack"] == order[-4:]


def test_settings_come_in_one_way_only(settings: Settings) -> None:
    """Settings and single overrides together would leave open which one wins."""
    with pytest.raises(TypeError):
        ProgressMiddleware(settings, namespace="x")
