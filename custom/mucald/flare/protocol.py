"""What travels in FLARE's own task messages: what to do, a site's reports, and model tensors beside them.

Tensors travel as a DXO, FLARE's model message: weights to a site, the difference of weights back. So a site's
FLARE filters act on them, and FLARE streams them.
"""

from typing import Any, Literal

import numpy as np
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from mucald.errors import MucaldError, WireError
from mucald.federation.method import Outcome, State
from mucald.federation.task import SiteTask

REASON = "mucald_reason"
_REPORTS = "reports"
_ROUND, _RUN, _NEWCOMERS, _BEHIND, _SERVER = "round", "run_id", "newcomers", "behind", "server"

# A tensor whose decomposer is not registered on both ends arrives as an empty one, without a word.
fobs.register(TensorDecomposer)


def task_to_shareable(task: SiteTask, payload: State, server: str) -> Shareable:
    """Return the task's data; ``server`` is the name of the cell that answers the steps."""
    shareable = Shareable()
    content = {_ROUND: task.round, _RUN: task.run_id, _SERVER: server}
    shareable.update(content | {_NEWCOMERS: list(task.newcomers), _BEHIND: dict(task.behind)})
    return _with_tensors(shareable, DataKind.WEIGHTS, payload)


def task_from_shareable(name: str, shareable: Shareable) -> tuple[SiteTask, State, str]:
    """Return the task called ``name``, the tensors that it brings, and the name of the server's cell.

    Raises:
        WireError: the server asks for something that this version does not know, or sends no tensors where
            it says so.
    """
    kind: Literal["train", "test"]
    if name == "train":
        kind = "train"
    elif name == "test":
        kind = "test"
    else:
        raise WireError(f"the server asks for a task '{name}', which this version does not know")
    newcomers = tuple(map(str, shareable[_NEWCOMERS]))
    behind = {str(site): int(completed) for site, completed in shareable[_BEHIND].items()}
    task = SiteTask(kind, int(shareable[_ROUND]), str(shareable[_RUN]), newcomers, behind)
    return task, _tensors(shareable), str(shareable[_SERVER])


def outcome_to_shareable(outcome: Outcome) -> Shareable:
    """Return what a participant sends back as a task result."""
    shareable = make_reply(ReturnCode.OK)
    shareable[_REPORTS] = outcome.reports
    return _with_tensors(shareable, DataKind.WEIGHT_DIFF, outcome.payload)


def outcome_from_shareable(shareable: Shareable) -> tuple[Any, State]:
    """Return the reports of a task result, unchecked, and its tensors.

    Raises:
        WireError: what came in the place of tensors is none.
    """
    return shareable.get(_REPORTS), _tensors(shareable)


def failure_to_shareable(error: MucaldError) -> Shareable:
    """Return a site's failure as a task result, with what others may read of it."""
    return make_reply(ReturnCode.EXECUTION_EXCEPTION, {REASON: error.public})


def _with_tensors(shareable: Shareable, kind: str, payload: State) -> Shareable:
    if payload:
        DXO(kind, data=dict(payload)).update_shareable(shareable)
    return shareable


def _tensors(shareable: Shareable) -> State:
    """Return the tensors of a message; filters may have turned them into arrays."""
    if shareable.get_header(ReservedHeaderKey.CONTENT_TYPE) is None:
        return {}
    try:
        content = from_shareable(shareable).data
    except (TypeError, ValueError, KeyError) as error:
        raise WireError(f"the message's tensors cannot be read ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise WireError("the message's tensors are no dictionary of names")
    found: State = {}
    for name, value in content.items():
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise WireError(f"'{name}' is a {type(value).__name__} and no tensor")
        found[str(name)] = torch.as_tensor(value)
    return found
