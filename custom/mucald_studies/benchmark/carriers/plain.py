"""Echo over a bare TCP socket and over gRPC: what the machine can do without FLARE."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedRWPair

import grpc

from mucald_studies.benchmark.carriers.certificates import Certificates

HOST = "localhost"
TIMEOUT_S = 60.0
_LENGTH = struct.Struct("<Q")
_METHOD = "/mucald_studies.benchmark/Echo"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SITES_AT_MOST = 64

Trip = Callable[[], int]
"""Sends a payload there and back once; returns how many bytes came back."""


def serve_socket(certificates: Certificates | None) -> str:
    """Answer every length-prefixed message with itself; return the address."""
    listener = socket.create_server((HOST, 0))
    context = _context(certificates, ssl.Purpose.CLIENT_AUTH) if certificates else None

    def answer(connection: socket.socket) -> None:
        connection = context.wrap_socket(connection, server_side=True) if context else connection
        with connection, connection.makefile("rwb") as stream:
            while message := _receive(stream):
                _send(stream, message)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return str(listener.getsockname()[1])


def connect_socket(address: str, certificates: Certificates | None) -> Callable[[bytes], Trip]:
    """Connect to :func:`serve_socket`."""
    connection: socket.socket = socket.create_connection((HOST, int(address)), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if certificates:
        context = _context(certificates, ssl.Purpose.SERVER_AUTH)
        connection = context.wrap_socket(connection, server_hostname=HOST)
    stream = connection.makefile("rwb")

    def prepare(payload: bytes) -> Trip:
        def trip() -> int:
            _send(stream, payload)
            return len(_receive(stream))

        return trip

    return prepare


def _send(stream: BufferedRWPair, message: bytes) -> None:
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def _receive(stream: BufferedRWPair) -> bytes:
    """Return the next message; nothing at the end of the stream."""
    header = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(header)[0]) if header else b""


def _context(certificates: Certificates, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=certificates.authority)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def serve_grpc(certificates: Certificates | None) -> str:
    """Answer every unary call with its own bytes; return the address."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    service, method = _METHOD.strip("/").split("/")
    server = grpc.server(ThreadPoolExecutor(_SITES_AT_MOST), options=_UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    if certificates:
        pair = certificates.read("key"), certificates.read("certificate")
        credentials = grpc.ssl_server_credentials(
            [pair], certificates.read("authority"), require_client_auth=True
        )
        port = server.add_secure_port(f"{HOST}:0", credentials)
    else:
        port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    _KEPT.append(server)
    return str(port)


_KEPT: list[grpc.Server] = []
"""A server of gRPC ends with its last reference."""


def connect_grpc(address: str, certificates: Certificates | None) -> Callable[[bytes], Trip]:
    """Connect to :func:`serve_grpc`."""
    target = f"{HOST}:{address}"
    if certificates:
        parts = (certificates.read(name) for name in ("authority", "key", "certificate"))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(*parts), options=_UNLIMITED)
    else:
        channel = grpc.insecure_channel(target, options=_UNLIMITED)
    call = channel.unary_unary(_METHOD)
    return lambda payload: lambda: len(call(payload, timeout=TIMEOUT_S))
