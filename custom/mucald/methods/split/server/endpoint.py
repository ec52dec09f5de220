"""The server's end of the wire: identity, order, duplicates, and one lock per site.

Handlers of different sites may run at once. Sites of one open round share nothing but the frozen
discriminators, so neither their order nor their number changes a result.
"""

import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mucald.device import steps_at_once
from mucald.errors import MucaldError, WireError
from mucald.federation.attendance import Attendance
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator
from mucald.methods.split.server.handlers import Fields, Handlers, Request
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.wire.messages import Kind, Message, Phase, decode, payload_types
from mucald.methods.split.wire.phases import phases_without_use, position_of
from mucald.wire.frame import Data
from mucald.wire.recorder import Recorder

log = logging.getLogger(__name__)

_UNREAD: Request = Message(Kind.REJECTION, Phase.VALIDATE, 0, 0, {})


@dataclass
class _Session:
    """One site's place in the protocol."""

    copy: SiteCopy
    limit: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = False
    position: tuple[int, int, int] = (-1, 0, 0)
    last_request: tuple[int, int, Phase, int] | None = None
    last_reply: bytes = b""


class SplitServer:
    """Answers the sites' messages.

    Args:
        config: the job.
        algorithm: what is done beyond averaging.
        copies: the server's networks by site.
        discriminators: one per CRDM, frozen within a round.
        recorder: keeps what was answered, if the job asks for it.
        attendance: is told of every step.
    """

    def __init__(
        self,
        config: SplitConfig,
        algorithm: Algorithm,
        copies: dict[str, SiteCopy],
        discriminators: Sequence[Discriminator],
        recorder: Recorder | None = None,
        attendance: Attendance | None = None,
    ):
        self._config, self._round, self._depth = config, -1, config.wire.pipeline_depth
        self._refused = phases_without_use(config, algorithm)
        self._handlers = Handlers(config, discriminators)
        self._sessions = {
            site: _Session(copy, self._handlers.largest_request(copy)) for site, copy in copies.items()
        }
        self._cores = threading.BoundedSemaphore(steps_at_once(config.runtime))
        self._recorder, self._attendance = recorder, attendance or Attendance(0)
        self._types = payload_types(config.wire)

    def open_round(self, round_number: int, sites: Sequence[str]) -> None:
        """Accept messages of ``round_number`` from ``sites``, and no others."""
        for site, session in self._sessions.items():
            with session.lock:
                session.open = site in sites
                if session.open:
                    session.copy.begin_round()
        self._round = round_number

    def close(self, site: str, rewind: Callable[[], None] | None = None) -> None:
        """Accept nothing more of ``site`` in this round; returns when its last step is done.

        ``rewind``, if given, takes the site's copy back to the round's beginning.
        """
        if (session := self._sessions.get(site)) is not None:
            with session.lock:
                session.open = False
                if rewind is not None:
                    rewind()

    def restart(self, site: str, rewind: Callable[[], None]) -> None:
        """Let ``site`` do the open round from its beginning; ``rewind`` takes its copy back there."""
        session = self._sessions[site]
        with session.lock:
            rewind()
            session.copy.begin_round()
            session.position, session.last_request = _Session.position, None

    def handle(self, site: str, request: Data) -> bytes:
        """Answer one message.

        Args:
            site: the sender as the transport has authenticated it.
            request: the raw message.

        Returns:
            the reply, or a rejection with its reason. A message can neither raise nor stop the server.
        """
        session = self._sessions.get(site)
        if session is None:
            return self._reject(site, _UNREAD, f"unknown site '{site}'")
        try:
            message = decode(request, session.limit)
        except WireError as error:
            return self._reject(site, _UNREAD, str(error))
        with session.lock, self._core():
            start = time.perf_counter()
            try:
                reply = self._answer(session, message, request)
                self._attendance.step(site)
                return reply
            except MucaldError as error:
                return self._reject(site, message, error.public)
            except Exception as error:
                log.exception("step of site %s failed", site)
                return self._reject(site, message, f"internal error ({type(error).__name__})")
            finally:
                session.copy.tally.seconds += time.perf_counter() - start

    @contextmanager
    def _core(self) -> Iterator[None]:
        self._wait_for_core()
        # For this handler's thread: its transport may have used it before the process was told a number.
        torch.set_num_threads(self._config.runtime.threads)
        try:
            yield
        finally:
            self._cores.release()

    def _wait_for_core(self) -> None:
        """Apart from the rest, so that a benchmark can time it."""
        self._cores.acquire()

    def _reject(self, site: str, message: Request, reason: str) -> bytes:
        self._attendance.show(site)
        log.warning("rejected a message of site '%s': %s", site, reason)
        return Message(Kind.REJECTION, message.phase, message.round, message.step, {}, reason).encode()

    def _answer(self, session: _Session, message: Request, data: Data) -> bytes:
        request = (message.round, message.step, message.phase, zlib.crc32(data))
        if request == session.last_request:
            return session.last_reply
        self._check(session, message)
        session.copy.tally.begin_step(message.phase.spec.training)
        fields = self._dispatch(session.copy, message)
        for name, tensor in fields.items():
            # The other side would refuse it.
            if not bool(tensor.isfinite().all()):
                raise WireError(f"the answer's {name.name} is not finite")
        reply = Message(Kind.REPLY, message.phase, message.round, message.step, fields).encode(
            self._types, (self._config.seed, session.copy.site)
        )
        session.position = position_of(message, self._depth)
        session.last_request, session.last_reply = request, reply
        if self._recorder is not None:
            self._recorder.append(session.copy.site, message, data, reply)
        return reply

    def _dispatch(self, copy: SiteCopy, message: Request) -> Fields:
        """Apart from the rest, so that a test can count what gets through to the networks."""
        return self._handlers.answer(copy, message)

    def _check(self, session: _Session, message: Request) -> None:
        if message.kind is not Kind.REQUEST:
            raise WireError("the server takes requests only")
        if message.round != self._round or not session.open:
            raise WireError(f"round {message.round} is not open for this site (current round {self._round})")
        if position_of(message, self._depth) <= session.position:
            raise WireError(f"{message.phase.name} step {message.step} is out of order")
        if message.phase in self._refused:
            raise WireError(f"{message.phase.name} does not fit {self._refused[message.phase]}")
        self._handlers.check(session.copy, message.fields)
