"""What travels in FLARE's own task messages: what to do, and a site's report of plain numbers."""

from typing import Literal

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from mucald.errors import MucaldError
from mucald.federation.task import SiteTask

REPORT = "report"
REASON = "mucald_reason"
_ROUND, _RUN, _NEWCOMERS, _BEHIND, _SERVER = "round", "run_id", "newcomers", "behind", "server"


def task_to_shareable(task: SiteTask, server: str) -> Shareable:
    """Return the task's data; ``server`` is the name of the cell that answers the steps."""
    shareable = Shareable()
    content = {_ROUND: task.round, _RUN: task.run_id, _SERVER: server}
    shareable.update(content | {_NEWCOMERS: list(task.newcomers), _BEHIND: dict(task.behind)})
    return shareable


def task_from_shareable(name: str, shareable: Shareable) -> tuple[SiteTask, str]:
    """Return the task called ``name`` and the name of the server's cell."""
    kind: Literal["train", "test"] = "train" if name == "train" else "test"
    newcomers = tuple(map(str, shareable[_NEWCOMERS]))
    behind = {str(site): int(completed) for site, completed in shareable[_BEHIND].items()}
    task = SiteTask(kind, int(shareable[_ROUND]), str(shareable[_RUN]), newcomers, behind)
    return task, str(shareable[_SERVER])


def report_to_shareable(report: dict[str, object]) -> Shareable:
    """Return a site's report as a task result."""
    shareable = make_reply(ReturnCode.OK)
    shareable[REPORT] = report
    return shareable


def failure_to_shareable(error: Exception) -> Shareable:
    """Return a site's failure as a task result, with what others may read of it."""
    reason = error.public if isinstance(error, MucaldError) else f"internal error ({type(error).__name__})"
    return make_reply(ReturnCode.EXECUTION_EXCEPTION, {REASON: reason})
