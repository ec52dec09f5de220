"""Echo over FLARE's cells: the bare core cell, this project's channel, aux messages, and the Collab API.

Site and server are connected directly, as in the simulator. Aux and Collab are FLARE's own classes on such
cells, without the rest of a job.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.apis.workspace import Workspace
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.collab.api.app import ClientApp, ServerApp
from nvflare.collab.api.decorators import main, publish
from nvflare.collab.api.proxy import Proxy
from nvflare.collab.runtime.cell_dispatcher import CellDispatcher
from nvflare.collab.runtime.dispatch import prepare_for_remote_call
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.core_cell import Message
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.sec.authn import set_add_auth_headers_filters
from nvflare.fuel.utils import fobs
from nvflare.private.aux_runner import AuxMsgTarget, AuxRunner

from mucald.errors import WireError
from mucald.flare.channel import ChannelSender, serve
from mucald_studies.benchmark.carriers.certificates import Certificates
from mucald_studies.benchmark.carriers.plain import HOST, TIMEOUT_S, Trip

SERVER = "server"
JOB = "bench"
_CHANNEL, _TOPIC = "bench", "echo"
_CONNECT_S = 30.0
_PEER = {"name": "bench"}

log = logging.getLogger(__name__)


class EchoService:
    """What the Collab API publishes."""

    @main
    def run(self) -> None:
        """Do nothing; a server's object has to have a main method."""

    @publish
    def echo(self, value: torch.Tensor) -> torch.Tensor:
        """Return what came."""
        return value


def _cell(name: str, port: int, certificates: Certificates | None) -> Cell:
    flare_decomposers.register()
    fobs.register(TensorDecomposer)
    credentials, kind = {}, "SERVER" if name == SERVER else "CLIENT"
    if certificates is not None:
        credentials = {
            DriverParams.CA_CERT.value: certificates.authority,
            DriverParams[f"{kind}_CERT"].value: certificates.certificate,
            DriverParams[f"{kind}_KEY"].value: certificates.key,
        }
    # The provisioned server is called as its host, and its certificate says so.
    identities = {SERVER: HOST} if certificates else {}
    address = f"tcp://{HOST}:{port}"
    cell = Cell(name, address, certificates is not None, credentials, auth_identity_map=identities)
    cell.start()
    return cell


def serve_cells(port: int, sites: list[str], certificates: Certificates | None) -> Cell:
    """Start the server's cell, which answers all four carriers."""
    cell = _cell(SERVER, port, certificates)
    cell.core_cell.register_request_cb(_CHANNEL, _TOPIC, lambda message: Message({}, message.payload))
    # No copy of what came, for neither does the bare cell make one.
    serve(cell, JOB, lambda _, request: cast(bytes, request))
    _serve_aux(cell)
    app = ServerApp(EchoService())
    app.name = SERVER
    participants = {SERVER: SERVER} | {f"{site}.{JOB}": site for site in sites}
    prepare_for_remote_call(cell, app, log, ThreadPoolExecutor(len(sites)), participants)
    return cell


def _serve_aux(cell: Cell) -> None:
    runner = AuxRunner(SimpleNamespace(get_cell=lambda: cell))

    def echo(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:  # noqa: ARG001 - FLARE names them
        reply = make_reply(ReturnCode.OK)
        reply["value"] = request["value"]
        return reply

    def dispatch(message: Message) -> Message:
        topic = message.get_header(MessageHeaderKey.TOPIC)
        return Message({}, runner.dispatch(topic, message.payload, FLContext()))

    runner.register_aux_message_handler(_TOPIC, echo)
    cell.register_request_cb(channel=CellChannel.AUX_COMMUNICATION, topic="*", cb=dispatch)


class SiteCell:
    """A site's cell and its ways to the server.

    The Collab API takes ``folder``, an empty one, as the site's workspace.

    Raises:
        WireError: the server's cell does not answer.
    """

    def __init__(self, site: str, port: int, certificates: Certificates | None, folder: Path):
        self._site, self._folder = site, folder
        self.cell = _cell(f"{site}.{JOB}", port, certificates)
        # What a registered site puts onto every message. No server checks the signature here.
        set_add_auth_headers_filters(self.cell, site, "token", "signature")
        end = time.monotonic() + _CONNECT_S
        while not self.cell.core_cell.is_cell_connected(SERVER):
            if time.monotonic() > end:
                raise WireError(f"the cell of '{site}' found no server within {_CONNECT_S:g} s")
            time.sleep(0.05)

    def core_cell(self, payload: bytes) -> Trip:
        """Send bytes by the core cell, without anything around it."""

        def trip() -> int:
            message = Message({}, payload)
            return len(self.cell.core_cell.send_request(_CHANNEL, _TOPIC, SERVER, message, TIMEOUT_S).payload)

        return trip

    def channel(self, payload: bytes) -> Trip:
        """Send bytes as the split protocol does."""
        send = ChannelSender(self.cell, SERVER, TIMEOUT_S, Signal())
        return lambda: len(send(payload))

    def aux(self, payload: bytes) -> Trip:
        """Send a tensor as an aux message."""
        tensor = _tensor(payload)
        runner, context = AuxRunner(SimpleNamespace(get_cell=lambda: self.cell)), FLContext()
        context.put(key="peer", value=_PEER, private=False, sticky=False)

        def trip() -> int:
            request = Shareable({"value": tensor})
            target = AuxMsgTarget.server_parent_target()
            replies = runner.send_aux_request([target], _TOPIC, request, TIMEOUT_S, context)
            return _bytes_of(replies[target.name].get("value"))

        return trip

    def collab(self, payload: bytes) -> Trip:
        """Send a tensor as the argument of a published method."""
        tensor, app, abort = _tensor(payload), ClientApp(EchoService()), Signal()
        app.name = self._site
        dispatcher = CellDispatcher(None, None, self._site, self.cell, SERVER, abort, ThreadPoolExecutor(1))
        published = ServerApp(EchoService()).get_collab_interface()
        server, own = (Proxy(app, name, name, dispatcher, published[""]) for name in (SERVER, self._site))
        for name in filter(None, published):
            server.add_child(name, Proxy(app, f"{SERVER}.{name}", "", dispatcher, published[name]))
        app.setup(Workspace(str(self._folder)), server, [own], abort)
        app.new_context(self._site, self._site)
        return lambda: _bytes_of(server.echo(tensor))


def _tensor(payload: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(payload), dtype=torch.float32)


def _bytes_of(value: torch.Tensor | None) -> int:
    return 0 if value is None else value.nbytes


CARRIERS: dict[str, Callable[[SiteCell, bytes], Trip]] = {
    "core_cell": SiteCell.core_cell,
    "channel": SiteCell.channel,
    "aux": SiteCell.aux,
    "collab": SiteCell.collab,
}
