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
from torch import Tensor

from mucald.device import steps_at_once
from mucald.errors import MucaldError, WireError
from mucald.federation.attendance import Attendance
from mucald.methods.split.causal.graphs import n_proxies
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator
from mucald.methods.split.server.released_samples import Samples
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.wire.link import TRAINING, server_payload_types
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, check_finite, decode
from mucald.methods.split.wire.phases import phases_without_use, position_of
from mucald.methods.split.wire.size_limit import largest_request
from mucald.methods.split.wire.weight_vector import from_vector, to_vector
from mucald.nets import backbone_of
from mucald.wire.recorder import Recorder

log = logging.getLogger(__name__)

_UNREAD = Message(Kind.REJECTION, Phase.VALIDATE, 0, 0, {})


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
        copies: the server's networks by site.
        discriminators: one per split, frozen within a round.
        recorder: keeps what was answered, if the job asks for it.
        attendance: is told of every step.
    """

    def __init__(
        self,
        config: SplitConfig,
        copies: dict[str, SiteCopy],
        discriminators: Sequence[Discriminator],
        recorder: Recorder | None = None,
        attendance: Attendance | None = None,
    ):
        self._config, self._round, self._depth = config, -1, config.wire.pipeline_depth
        self._refused = phases_without_use(config)
        self._sessions = {
            site: _Session(copy, largest_request(config, copy)) for site, copy in copies.items()
        }
        self._cores = threading.BoundedSemaphore(steps_at_once(config.runtime))
        self._discriminators, self._recorder = discriminators, recorder
        self._attendance = attendance or Attendance(0)
        self._types = server_payload_types(config.wire)
        self._latent_shape = backbone_of(config.network).latent_shape(config.data.image_size)

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

    def handle(self, site: str, request: bytes | bytearray | memoryview) -> bytes:
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
                session.copy.record.seconds += time.perf_counter() - start

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

    def _reject(self, site: str, message: Message, reason: str) -> bytes:
        self._attendance.show(site)
        log.warning("rejected a message of site '%s': %s", site, reason)
        return Message(Kind.REJECTION, message.phase, message.round, message.step, {}, reason).encode()

    def _answer(self, session: _Session, message: Message, data: bytes | bytearray | memoryview) -> bytes:
        request = (message.round, message.step, message.phase, zlib.crc32(data))
        if request == session.last_request:
            return session.last_reply
        self._check(session, message)
        session.copy.record.begin_step(message.phase in TRAINING)
        fields = self._dispatch(session.copy, message)
        check_finite(fields)
        reply = Message(Kind.REPLY, message.phase, message.round, message.step, fields).encode(
            self._types, (self._config.seed, session.copy.site)
        )
        session.position = position_of(message, self._depth)
        session.last_request, session.last_reply = request, reply
        if self._recorder is not None:
            self._recorder.append(session.copy.site, message, data, reply)
        return reply

    def _check(self, session: _Session, message: Message) -> None:
        if message.kind is not Kind.REQUEST:
            raise WireError("the server takes requests only")
        if message.round != self._round or not session.open:
            raise WireError(f"round {message.round} is not open for this site (current round {self._round})")
        if position_of(message, self._depth) <= session.position:
            raise WireError(f"{message.phase.name} step {message.step} is out of order")
        if message.phase in self._refused:
            raise WireError(f"{message.phase.name} does not fit {self._refused[message.phase]}")
        self._check_shapes(session.copy, message.fields)

    def _check_shapes(self, copy: SiteCopy, fields: dict[Field, Tensor]) -> None:
        batch = self._config.training.batch_size
        if (latent := fields.get(Field.LATENT)) is not None:
            batch = latent.shape[0]
            if batch > self._config.training.batch_size:
                raise WireError(f"batch of {batch}, at most {self._config.training.batch_size} allowed")
        elif (indices := fields.get(Field.INDICES)) is not None:
            batch = min(indices.shape[0], batch)
        image = (batch, *self._latent_shape)
        proxies = (batch, n_proxies(self._config.crdm.encoder, copy.task.name))
        expected: dict[Field, tuple[int, ...]] = {
            Field.LATENT: image,
            Field.NOISE: image,
            Field.LEVEL: (batch,),
            Field.INDICES: (batch,),
            Field.PROXIES: proxies,
            Field.PROXY_MASK: proxies,
            Field.COUNTERS: (2 * len(copy.candidates),),
        }
        for name, tensor in fields.items():
            if name in expected and tuple(tensor.shape) != expected[name]:
                raise WireError(f"{name.name} has shape {tuple(tensor.shape)}, not {expected[name]}")
        level = fields.get(Field.LEVEL)
        if level is not None and not bool(((level >= 0) & (level < self._config.release.timesteps)).all()):
            raise WireError(f"LEVEL must lie in [0, {self._config.release.timesteps - 1}]")

    def _dispatch(self, copy: SiteCopy, message: Message) -> dict[Field, Tensor]:
        fields, phase, step = message.fields, message.phase, message.step
        if phase is Phase.REPORT:
            return {Field.COUNTERS: _report(copy, fields[Field.COUNTERS])}
        if phase is Phase.FETCH_FRONT_END:
            assert copy.segments.front_end is not None
            return {Field.WEIGHTS: to_vector(copy.segments.front_end, self._config.aggregation.statistics)}
        if phase is Phase.GIVE_FRONT_END:
            assert copy.segments.front_end is not None
            from_vector(copy.segments.front_end, fields[Field.WEIGHTS], self._config.aggregation.statistics)
            return {}
        if phase is Phase.TRAIN_BACKWARD:
            return {Field.LATENT_GRADIENT: copy.train_backward(step, fields[Field.FEATURE_GRADIENT])}
        if phase is Phase.TRAIN_BACKWARD_RELEASED:
            # The front end is frozen, so ∂L/∂x_t is of no use to the site.
            copy.train_backward(step, fields[Field.FEATURE_GRADIENT])
            return {}
        latent, level, proxies = self._received(copy, message)
        if phase is Phase.RELEASE:
            return {}
        if phase in (Phase.VALIDATE, Phase.VALIDATE_RELEASED):
            features = copy.evaluate(message.round, step, "validation", latent, level, proxies)
        elif phase is Phase.TRAIN_HEAD:
            features = copy.evaluate(message.round, step, "head", latent, level)
        elif phase is Phase.TEST:
            if step == 0:
                copy.load_best()
            features = copy.evaluate(message.round, step, "test", latent, level)
        else:
            noise = fields.get(Field.NOISE)
            features = copy.train_forward(
                message.round, step, latent, level, proxies, noise, self._discriminators
            )
        return {Field.FEATURES: features}

    def _received(self, copy: SiteCopy, message: Message) -> Samples:
        """Return the samples of a message: those that it holds, or those that it names.

        What a site releases once is kept. Its samples are numbered in the order in which they come.
        """
        fields, phase = message.fields, message.phase
        split = "validation" if phase in (Phase.VALIDATE, Phase.VALIDATE_RELEASED) else "train"
        if Field.INDICES in fields:
            return copy.released.batch(split, fields[Field.INDICES])
        proxies = None
        if Field.PROXIES in fields and Field.PROXY_MASK in fields:
            proxies = (fields[Field.PROXIES], fields[Field.PROXY_MASK])
        samples = fields[Field.LATENT], fields[Field.LEVEL].to(torch.int64), proxies
        if self._config.release.mode == "once" and phase is not Phase.TEST:
            copy.released.add(split, message.step * self._config.training.batch_size, samples)
        return samples


def _report(copy: SiteCopy, counters: Tensor) -> Tensor:
    """Take Dice and loss of every state that the site has validated, and return the answer's counters."""
    scores = counters.reshape(-1, 2).tolist()
    index = copy.choose([loss for _, loss in scores])
    best = float(copy.keep_if_best(scores[index][0]))
    return torch.tensor([best] if len(scores) == 1 else [best, index], dtype=torch.float64)
