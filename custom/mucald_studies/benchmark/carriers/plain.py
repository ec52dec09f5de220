"""Echo over a bare TCP socket and over gRPC: what the machine can do without FLARE."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    context = _server_context(certificates) if certificates else None

    def answer(connection: socket.socket) -> None:
        stream = context.wrap_socket(connection, server_side=True) if context else connection
        with stream:
            while (message := _receive(stream)) is not None:
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
    stream: socket.socket = socket.create_connection((HOST, int(address)), timeout=TIMEOUT_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if certificates:
        stream = _client_context(certificates).wrap_socket(stream, server_hostname=HOST)

    def prepare(payload: bytes) -> Trip:
        def trip() -> int:
            _send(stream, payload)
            message = _receive(stream)
            return 0 if message is None else len(message)

        return trip

    return prepare


def _send(stream: socket.socket, message: bytes | bytearray) -> None:
    stream.sendall(_LENGTH.pack(len(message)))
    stream.sendall(message)


def _receive(stream: socket.socket) -> bytearray | None:
    """Return the next message, or None at the end of the stream."""
    header = _exactly(stream, _LENGTH.size)
    return None if header is None else _exactly(stream, _LENGTH.unpack(header)[0])


def _exactly(stream: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size:
        count = stream.recv_into(view[position:])
        if count == 0:
            return None
        position += count
    return data


def _server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.authority)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates.authority)
    context.load_cert_chain(certificates.certificate, certificates.key)
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
