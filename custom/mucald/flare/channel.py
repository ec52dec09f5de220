"""The private cell channel that carries the bytes of a method's steps.

FLARE's own messages of tensors (aux, Collab) are some ten times slower: they open a download transaction per
tensor and format the whole message for a debug line. The core cell sends bytes as they are; from
:data:`STREAM_FROM` bytes on the cell's streaming takes over. One handler serves both.
"""

import logging
import time
from collections.abc import Callable

from nvflare.apis.fl_constant import CellMessageAuthHeaderKey
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import Message

from mucald.errors import WireError

log = logging.getLogger(__name__)

CHANNEL = "mucald"
TOPIC = "step"
STREAM_FROM = 32 * 1024 * 1024
"""Bytes of the smallest message that is streamed; at 8 MiB streaming is about half as fast as one frame.

FLARE takes frames of nearly 2 GiB, but its TCP driver closes a connection on which a frame takes longer than
30 s to send. For 32 MiB that is a line of 9 Mbit/s. Streamed, only each piece has to go in that time.
"""
ATTEMPTS = 3
_RETRY_PAUSE_S = 1.0

Handler = Callable[[str, bytes | bytearray | memoryview], bytes]
"""Answers a request: name of the authenticated site and raw message to raw reply."""


def serve(cell: Cell, job_id: str, handler: Handler) -> None:
    """Answer requests of this job's sites with ``handler``, and no others; see :func:`sender_of`."""

    def answer(message: Message) -> Message:
        site = sender_of(message, job_id)
        if site is None or not isinstance(message.payload, bytes | bytearray | memoryview):
            origin = message.get_header(MessageHeaderKey.ORIGIN)
            log.warning("refused a message of %.100r, which is no site's of this job or no bytes", origin)
            return Message({MessageHeaderKey.RETURN_CODE: ReturnCode.INVALID_REQUEST}, b"")
        return Message({MessageHeaderKey.RETURN_CODE: ReturnCode.OK}, handler(site, message.payload))

    cell.register_request_cb(channel=CHANNEL, topic=TOPIC, cb=answer)


def sender_of(message: Message, job_id: str) -> str | None:
    """Return which site sent a message, or None unless its headers agree that it is a site of this job.

    The origin alone does not say who sent it: a participant writes it itself, and FLARE compares it with what
    that participant called itself when it registered, which FLARE does not check. The name beside the token
    is signed by the server for who showed the certificate of that name, and FLARE verifies that signature on
    every message from outside. So the origin has to be the named site's own cell of this job.
    """
    name = message.get_header(CellMessageAuthHeaderKey.CLIENT_NAME)
    origin = message.get_header(MessageHeaderKey.ORIGIN)
    if not isinstance(name, str) or not isinstance(origin, str) or not name:
        return None
    return name if FQCN.split(origin)[-2:] == [name, job_id] else None


class ChannelSender:
    """Sends a site's requests to the server, again if an answer does not come: steps are idempotent.

    Args:
        cell: the site's job cell.
        server: fully qualified name of the server's job cell.
        timeout_s: how long to wait for one answer.
        abort: FLARE's signal that the job is to end.
    """

    def __init__(self, cell: Cell, server: str, timeout_s: float, abort: Signal):
        self._cell, self._server, self._timeout, self._abort = cell, server, timeout_s, abort

    def __call__(self, request: bytes) -> bytes:
        """Send one request and return its reply.

        Raises:
            WireError: the job was aborted, or the server did not answer in any attempt.
        """
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(_RETRY_PAUSE_S)
            if self._abort.triggered:
                raise WireError("the job was aborted")
            reply = self._send(request)
            code = reply.get_header(MessageHeaderKey.RETURN_CODE)
            if code == ReturnCode.OK:
                return reply.payload
            reason = f"{code} {reply.get_header(MessageHeaderKey.ERROR, '')}".strip()
        raise WireError(f"the server did not answer in {ATTEMPTS} attempts of {self._timeout:g} s: {reason}")

    def _send(self, request: bytes) -> Message:
        # A new message each time, because the cell writes into its headers.
        message = Message({}, request)
        if len(request) < STREAM_FROM:
            return self._cell.core_cell.send_request(
                CHANNEL, TOPIC, self._server, message, timeout=self._timeout
            )
        return self._cell.send_request(
            channel=CHANNEL,
            topic=TOPIC,
            target=self._server,
            request=message,
            timeout=self._timeout,
            abort_signal=self._abort,
        )
