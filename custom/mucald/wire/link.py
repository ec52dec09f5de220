"""A site's end of the wire: encodes, sends, checks the answer, and counts bytes and time."""

import time
from collections.abc import Callable, Mapping
from typing import Generic

from torch import Tensor

from mucald.errors import WireError
from mucald.randomness import Key
from mucald.wire.frame import F, Kind, Message, P
from mucald.wire.traffic import Traffic


class Link(Generic[P, F]):
    """Sends a site's requests.

    Args:
        send: carries a request to the server and returns its reply; it may repeat one.
        decode: reads an answer of the protocol.
        payload_types: in which payload types fields leave.
        sender: the job's seed and the site, see :meth:`.Message.encode`.
    """

    def __init__(
        self,
        send: Callable[[bytes], bytes],
        decode: Callable[[bytes], Message[P, F]],
        payload_types: Mapping[F, str],
        sender: Key,
    ):
        self._send, self._decode = send, decode
        self._types, self._sender = payload_types, sender
        self.traffic = Traffic()

    def request(self, phase: P, round_number: int, step: int, fields: dict[F, Tensor]) -> dict[F, Tensor]:
        """Send one request and return what the server's reply holds.

        Raises:
            WireError: the server refused the request, or its answer does not belong to it.
        """
        data = Message(Kind.REQUEST, phase, round_number, step, fields).encode(self._types, self._sender)
        start = time.perf_counter()
        answer = self._send(data)
        self.traffic.seconds += time.perf_counter() - start
        self.traffic.up += len(data)
        self.traffic.down += len(answer)
        if phase.spec.training:
            self.traffic.training += len(data) + len(answer)
        reply = self._decode(answer)
        if reply.kind is Kind.REJECTION:
            raise WireError(f"the server refused {phase.name} of round {round_number}: {reply.reason}")
        if (reply.kind, reply.phase, reply.round, reply.step) != (Kind.REPLY, phase, round_number, step):
            raise WireError(f"the server answered another request than {phase.name} {round_number}/{step}")
        return reply.fields
