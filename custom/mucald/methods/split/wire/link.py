"""A site's end of the wire: encodes, sends, checks the answer, and counts bytes and time."""

import time
from collections.abc import Callable

from torch import Tensor

from mucald.errors import WireError
from mucald.methods.split.config import SplitConfig, WireConfig
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode
from mucald.wire.traffic import Traffic

Send = Callable[[bytes], bytes]
"""Carries a request to the server and returns its reply; it may repeat one, for steps are idempotent."""

TRAINING = frozenset(
    {
        Phase.TRAIN_FORWARD,
        Phase.TRAIN_FORWARD_WITH_NOISE,
        Phase.TRAIN_BACKWARD,
        Phase.TRAIN_HEAD,
        Phase.RELEASE,
        Phase.TRAIN_FORWARD_RELEASED,
        Phase.TRAIN_BACKWARD_RELEASED,
    }
)


def site_payload_types(wire: WireConfig) -> dict[Field, str]:
    """Return the payload types of what a site sends."""
    return {
        Field.LATENT: wire.latent,
        Field.FEATURE_GRADIENT: wire.feature_gradient,
    }


def server_payload_types(wire: WireConfig) -> dict[Field, str]:
    """Return the payload types of what the server sends."""
    return {
        Field.FEATURES: wire.features,
        Field.LATENT_GRADIENT: wire.latent_gradient,
    }


class Link:
    """Sends a site's requests.

    Args:
        send: the carrier.
        config: the job.
        site: name of the site.
    """

    def __init__(self, send: Send, config: SplitConfig, site: str):
        self._send = send
        self._types = site_payload_types(config.wire)
        self._sender = (config.seed, site)
        self.traffic = Traffic()

    def request(self, phase: Phase, round_number: int, step: int, fields: dict[Field, Tensor]) -> Message:
        """Send one request and return the server's reply.

        Raises:
            WireError: the server refused the request, or its answer does not belong to it.
        """
        data = Message(Kind.REQUEST, phase, round_number, step, fields).encode(self._types, self._sender)
        start = time.perf_counter()
        answer = self._send(data)
        self.traffic.seconds += time.perf_counter() - start
        self.traffic.up += len(data)
        self.traffic.down += len(answer)
        if phase in TRAINING:
            self.traffic.training += len(data) + len(answer)
        reply = decode(answer)
        if reply.kind is Kind.REJECTION:
            raise WireError(f"the server refused {phase.name} of round {round_number}: {reply.reason}")
        if (reply.kind, reply.phase, reply.round, reply.step) != (Kind.REPLY, phase, round_number, step):
            raise WireError(f"the server answered another request than {phase.name} {round_number}/{step}")
        return reply
