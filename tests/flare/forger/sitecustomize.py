"""Makes a site of test_provisioned.py act as another one; Python imports it from a folder on PYTHONPATH.

Every message of a step goes out under the other site's name first, in three ways, and every task and report
carries a peer context with that name. What became of the messages is appended to a file, a line each.
"""

import json
import os
import threading
from pathlib import Path

from nvflare.apis.fl_constant import CellMessageAuthHeaderKey, ReservedKey
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.message import Message
from nvflare.private.fed.client import communicator

from mucald.flare import channel

VICTIM, NOTES = os.environ["FORGER_VICTIM"], Path(os.environ["FORGER_NOTES"])
FORGED_STEPS = 3
TIMEOUT_S = 2.0

forgery = threading.local()
steps = iter(range(FORGED_STEPS))
send_step, send_to_endpoint = channel.ChannelSender._send, CoreCell._send_to_endpoint
new_peer_context = communicator.gen_new_peer_ctx


def send_with_forged_headers(cell, endpoint, message):
    # The last thing before the wire, after FLARE has written origin, name and token.
    message.add_headers(getattr(forgery, "headers", None) or {})
    return send_to_endpoint(cell, endpoint, message)


def forge_then_send(sender, request):
    if next(steps, None) is not None:
        job = sender._cell.get_fqcn().split(".")[-1]
        origin = {MessageHeaderKey.ORIGIN: f"{VICTIM}.{job}"}
        name = {CellMessageAuthHeaderKey.CLIENT_NAME: VICTIM}
        for kind, headers in (("origin", origin), ("name", name), ("both", origin | name)):
            forgery.headers = headers
            reply = sender._cell.core_cell.send_request(
                channel.CHANNEL, channel.TOPIC, sender._server, Message({}, request), timeout=TIMEOUT_S
            )
            forgery.headers = None
            with NOTES.open("a") as notes:
                notes.write(json.dumps([kind, reply.get_header(MessageHeaderKey.RETURN_CODE)]) + "\n")
    return send_step(sender, request)


def forged_peer_context(*arguments, **more):
    context = new_peer_context(*arguments, **more)
    context.set_prop(ReservedKey.IDENTITY_NAME, VICTIM, private=False, sticky=True)
    return context


CoreCell._send_to_endpoint = send_with_forged_headers
channel.ChannelSender._send = forge_then_send
communicator.gen_new_peer_ctx = forged_peer_context
