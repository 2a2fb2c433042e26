"""`ProgressMiddleware`: turns what happens to a Dramatiq message into the life of a job. Sending is the flusher's work.

It stands before Retries in the list, so that its after-hooks see what Retries decided, and moves itself there. Dramatiq swallows
what a hook raises but waits for as long as it blocks: three waits, each bounded, and no other I/O. Every hook may come twice.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from functools import cached_property
from typing import Any, Final

import dramatiq
from dramatiq.broker import Broker, MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import Middleware, Retries, SkipMessage

from .. import events, tracing
from ..errors import InvalidUpload
from ..jobs import pack_arguments
from ..settings import Settings, load
from ..store.files import Files
from .announcing import announcements, upload_names
from .buffer import Buffer
from .discarded import mend_warning
from .encoding import check_encoder
from .flusher import Flusher, flusher_of
from .header import header_of, is_tracked, new_header
from .housekeeping import Housekeeper
from .interrupts import Cancelled, Refused, Superseded
from .job import Job, current_job, set_current
from .outcome import error_of, result_of, text_of
from .run import Run
from .spreading import Spreader, send_follow_up
from .upload import Upload
from .work import PerThread, Work, guard

log = logging.getLogger(__name__)

#: A part that another worker has is looked at again so long after that one would be stalled.
_LATER_MS: Final = 1_000
#: What a worker that shuts down gives the last words of its jobs.
SHUTDOWN_SECONDS: Final = 2.0


class ProgressMiddleware(Middleware):
    """`broker.add_middleware(ProgressMiddleware())`, anywhere: it finds its place.

    Settings come from the environment, from `settings`, or from keywords with the settings' names. Without `redis_url` nothing is
    reported, silently, as tests with a StubBroker want it. `interrupt` is what actors get that do not say: see `stopping`.
    """

    def __init__(
        self, settings: Settings | None = None, *, interrupt: bool = False, **overrides: Any
    ) -> None:
        if settings is not None and overrides:
            raise TypeError("either settings or single ones by name, not both")
        self.settings = settings if settings is not None else load(**overrides)
        self._interrupt = interrupt
        self._here = PerThread()
        self._guarding = threading.Lock()
        self._housekeepers: dict[int, Housekeeper] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"progress", "submit", "owner", "title", "interrupt"}

    @property
    def flusher(self) -> Flusher | None:
        """The process' own; None where nothing is reported."""
        return None if self.settings.redis_url is None else flusher_of(self.settings)

    @cached_property
    def _files(self) -> Files:
        return Files(self.settings.effective_files_url)

    # Its place

    def before_declare_actor(self, broker: Broker, actor: dramatiq.Actor[Any, Any]) -> None:
        check_encoder()
        mend_warning()
        self._take_place(broker)

    def after_declare_actor(self, broker: Broker, actor: dramatiq.Actor[Any, Any]) -> None:
        self._take_place(broker)

    def after_process_boot(self, broker: Broker) -> None:
        self._take_place(broker)

    def _take_place(self, broker: Broker) -> None:
        """Before Retries. A new list, never a change in place: somebody may be walking over the old one."""
        stack = broker.middleware
        first = next((place for place, one in enumerate(stack) if isinstance(one, Retries)), None)
        if first is None or self not in stack or stack.index(self) < first:
            return
        others = [one for one in stack if one is not self]
        broker.middleware = [*others[:first], self, *others[first:]]

    # A message is sent

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:
        check_encoder()
        self._take_place(broker)
        flusher = self.flusher
        if flusher is None or not is_tracked(broker, message):
            return
        work = self._working_on(message.message_id)
        if work is not None and message.options.get("retries", 0) > work.retries:
            self._retry(flusher, work, message)
        elif "created_at" not in message.options:
            self._create(flusher, broker, message)

    def _create(self, flusher: Flusher, broker: Broker, message: Message[Any]) -> None:
        """The job exists before its message does: whoever is handed its id may watch at once."""
        header = new_header(broker, message, inherited=current_job().owner)
        message.options.update(header.to_options(), progress=True)
        if trace := tracing.carried():
            message.options[tracing.KEY] = trace
        self._here.creating = header
        self._here.deadline = time.monotonic() + self.settings.enqueue_wait_ms / 1000
        kept = self._arguments(message)
        flusher.wait(
            flusher.create(header, confirmed=False, arguments=kept).done, self.settings.enqueue_wait_ms
        )

    def _arguments(self, message: Message[Any]) -> bytes:
        return pack_arguments(message.args, message.kwargs, self.settings.event_bytes)

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:
        flusher, header = self.flusher, self._here.creating
        if flusher is None:
            return
        if header is not None and header.id == message.message_id:
            self._here.creating = None
            left = (self._here.deadline - time.monotonic()) * 1000
            # Waited for too: a script that sends and exits would leave a job that looks as if no broker had it.
            # The arguments once more: the first call may have been given up while Redis was away.
            confirmed = flusher.create(header, confirmed=True, arguments=self._arguments(message))
            flusher.wait(confirmed.done, max(0.0, left))
            return
        work = self._working_on(message.message_id)
        if work is not None and message.options.get("retries", 0) > work.retries:
            work.retry_enqueued = True

    def _retry(self, flusher: Flusher, work: Work, message: Message[Any]) -> None:
        """Retries is about to send the next attempt. Raising stops that: a message that nobody owns must not come back."""
        run = work.run
        if run.silent and not run.superseded:
            return
        if not run.stopped:
            eta = message.options.get("eta")
            next_at = events.text_of(int(eta)) if eta is not None else events.now_text()
            run.conclude("retrying", error=error_of(sys.exception()), next_at=next_at)
            flusher.wait(run.drained, self.settings.enqueue_wait_ms)
        if run.stopped:
            raise (Superseded if run.superseded else Cancelled)(run.header.id, run.attempt)

    # A message is worked on

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._take_place(broker)
        self._forget()
        flusher = self.flusher
        if flusher is not None and is_tracked(broker, message):
            if tracing.is_on():
                trace = message.options.get(tracing.KEY)
                self._here.span = tracing.Attempt(message.actor_name, message.message_id, trace)
            self._start(flusher, broker, message)
        self._give_uploads(broker, message)

    def _start(self, flusher: Flusher, broker: Broker, message: MessageProxy) -> None:
        """Take the attempt; without an answer in time the actor runs, and it is taken later."""
        try:
            header = header_of(broker, message)
        except Refused as error:
            log.error("message %s runs unreported: %s", message.message_id, error)
            return
        run = flusher.run(header, may_create=self._is_young(message))
        self._here.work = Work(run, message, interrupt=self._guard(broker.actors.get(message.actor_name)))
        set_current(Job(run, lambda: self._files, Spreader(flusher, broker, run)))
        flusher.wait(run.answered, self.settings.start_wait_ms)
        if run.busy is not None:
            # A message that came twice. Whoever has the part may die yet: then this one is needed.
            broker.enqueue(message._message, delay=run.busy + _LATER_MS)
            raise SkipMessage("another worker has this part")
        # A step that has ended runs on, muted, for the sake of what follows it.
        if header.parent is not None and run.ended is not None and "pipe_target" not in message.options:
            raise SkipMessage("the part has ended")
        if run.worn:
            message.fail()
            raise SkipMessage(f"begun {self.settings.max_starts} times without coming to an end (MAX_STARTS)")
        if run.ended == "cancelled":
            raise SkipMessage("the job was cancelled before it began")
        if run.deleted:
            raise SkipMessage("the job was deleted before it began")
        if run.cancel_requested:
            # Asked for while an earlier attempt ran, which never heard of it: this one ends the job.
            raise Cancelled(run.header.id, run.attempt)

    def _guard(self, actor: dramatiq.Actor[Any, Any] | None) -> bool:
        """Whether this actor is to be interrupted. What its function raises and returns goes through our hands from now on."""
        if actor is None:
            return False
        with self._guarding:
            if not hasattr(actor.fn, "is_guarded"):
                actor.fn = guard(actor.fn, self._here)
        return bool(actor.options.get("interrupt", self._interrupt))

    def _is_young(self, message: MessageProxy) -> bool:
        """An old message of which Redis knows nothing is one of a job that was deleted or has expired."""
        options = message.options
        newest = max(
            message.message_timestamp, options.get("requeue_timestamp") or 0, options.get("run_at") or 0
        )
        return time.time() * 1000 - newest < self.settings.state_seconds * 1000

    def _give_uploads(self, broker: Broker, message: MessageProxy) -> None:
        """References become Uploads for the actor alone: the message, and with it a retry, keeps plain JSON."""
        actor = broker.actors.get(message.actor_name)
        names = {} if actor is None else upload_names(actor)
        try:
            for name, place in names.items():
                self._give_upload(message, name, place)
        except InvalidUpload as error:
            # A hook's other errors are swallowed, and the actor would meet a dict where it expects a file.
            message.fail()
            raise SkipMessage(str(error)) from error

    def _give_upload(self, message: MessageProxy, name: str, place: int) -> None:
        if isinstance(message.kwargs.get(name), dict):
            message.kwargs = {**message.kwargs, name: Upload(message.kwargs[name], self._files)}
        elif place < len(message.args) and isinstance(message.args[place], dict):
            upload = Upload(message.args[place], self._files)
            message.args = (*message.args[:place], upload, *message.args[place + 1 :])

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        flusher, work = self.flusher, self._working_on(message.message_id)
        if flusher is None or work is None or work.finished:
            return
        work.finished = True
        if self._here.span is not None and exception is not None:
            self._here.span.fail(exception)
        run = work.run
        if run.stopped and message.failed:
            # Acknowledged, not dead-lettered: nobody is to look into it.
            message.failed = False
        if work.retry_enqueued:
            run.close()
        elif exception is None and not message.failed and not run.gave_in:
            self._succeed(flusher, run, result)
        elif run.cancel_requested:
            self._conclude(flusher, run, "cancelled", reason="cancelled on request")
        else:
            self._conclude(flusher, run, "failed", error=error_of(exception))
        self._follow_up(flusher, broker, run)
        if work.is_unwanted:
            # Heard of only now.
            work.end_pipeline()

    def _follow_up(self, flusher: Flusher, broker: Broker, run: Run) -> None:
        """The last part of a job has ended here, or its actor has returned after them all."""
        if run.follow_up_due:
            run.follow_up_due = False
            job = run.header.parent or run.header.id
            send_follow_up(flusher, broker, job, self.settings.enqueue_wait_ms / 1000)

    def _succeed(self, flusher: Flusher, run: Run, result: Any) -> None:
        fields = result_of(result, self.settings.event_bytes)
        if dropped := fields.get("result_dropped"):
            log.warning("job %s: its result is dropped: %s", run.header.id, dropped)
            run.say(
                Buffer.log,
                time.monotonic(),
                events.now_text(),
                f"the result was dropped: {dropped}",
                "warning",
            )
        if run.is_spread:
            run.release(fields)
            run.close()
            flusher.wait(run.drained, self.settings.terminal_wait_ms)
        else:
            self._conclude(flusher, run, "succeeded", **fields)

    def _conclude(self, flusher: Flusher, run: Run, type: str, **fields: Any) -> None:
        run.conclude(type, **fields)
        run.close()
        flusher.wait(run.drained, self.settings.terminal_wait_ms)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skipped by a hook before ours (then there is no run), by one after it, or by the actor itself."""
        flusher, work = self.flusher, self._working_on(message.message_id)
        if flusher is None or not is_tracked(broker, message):
            return
        error = sys.exception()
        type, fields = _fate_of_skipped(message, error)
        if work is None or work.run.worn:
            self._end_from_outside(flusher, broker, message, type, fields)
        elif not work.finished:
            work.finished = True
            self._conclude(flusher, work.run, type, **fields)
            self._follow_up(flusher, broker, work.run)

    def _end_from_outside(
        self, flusher: Flusher, broker: Broker, message: MessageProxy, type: str, fields: dict[str, Any]
    ) -> None:
        self._here.settled = message.message_id
        event = events.make(message.message_id, type, at=events.now_text(), **fields)
        answer = flusher.intervene(header_of(broker, message), event)
        flusher.wait(answer.done, self.settings.terminal_wait_ms)

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        self._forget()

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Dead-lettered. Where nothing else has ended the job (no worker has its actor), this does."""
        flusher, work = self.flusher, self._working_on(message.message_id)
        known = (work is not None and work.finished) or self._here.settled == message.message_id
        if flusher is not None and not known and is_tracked(broker, message):
            error = error_of(sys.exception(), "the broker put its message aside")
            self._end_from_outside(flusher, broker, message, "failed", {"error": error})
        self._forget()

    def _working_on(self, id: str) -> Work | None:
        work = self._here.work
        return work if work is not None and work.run.header.id == id else None

    def _forget(self) -> None:
        if self._here.work is not None:
            self._here.work.run.close()
        if self._here.span is not None:
            self._here.span.end()
        self._here.work = self._here.settled = self._here.span = None
        set_current(None)

    # A worker process comes and goes

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        check_encoder()

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._take_place(broker)
        if self.flusher is None:
            return
        queues = frozenset(worker.consumer_whitelist) if worker.consumer_whitelist else None
        housekeeper = Housekeeper(
            self.settings,
            lambda: announcements(broker.actors, queues),
            lambda message: _sent(broker, message),
            self._is_told,
        )
        self._housekeepers[id(worker)] = housekeeper
        housekeeper.start()

    def _is_told(self) -> bool:
        return self.flusher is not None and self.flusher.in_outage

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        housekeeper = self._housekeepers.pop(id(worker), None)
        if housekeeper is not None:
            housekeeper.stop()
        if self.flusher is not None:
            self.flusher.flush(SHUTDOWN_SECONDS)


def _sent(broker: Broker, message: bytes) -> None:
    broker.enqueue(Message.decode(message))


def _fate_of_skipped(message: MessageProxy, error: BaseException | None) -> tuple[str, dict[str, Any]]:
    if message.failed:
        return "failed", {"error": error_of(error, "it was skipped")}
    if isinstance(error, Cancelled):
        return "cancelled", {"reason": "cancelled on request"}
    return "cancelled", {"reason": (text_of(error) if error is not None else "") or "it was skipped"}
