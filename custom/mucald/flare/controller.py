"""The FLARE workflow: hands the coordinator's tasks to the sites and their reports back."""

import time

import torch
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from mucald.device import choose_device
from mucald.errors import MucaldError, WireError
from mucald.federation.coordinator import Coordinator
from mucald.federation.task import SiteTask
from mucald.flare.channel import serve
from mucald.flare.protocol import REASON, REPORT, task_to_shareable
from mucald.flare.workspace import home_folder, job_config, run_folder

_POLL_S = 0.2
_MAX_REASON = 1000


class SplitFedController(Controller):
    """Runs a split-federated job: one task per site and round, and the steps over the cell channel.

    Tasks of a round are handed out as the coordinator says: to all sites at once, or to one after the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._coordinator: Coordinator | None = None

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Build the server's networks and open the channel; a wrong job ends with its reason."""
        engine = fl_ctx.get_engine()
        try:
            config = job_config(fl_ctx)
            torch.set_num_threads(config.runtime.threads)
            self._task_timeout = config.runtime.task_timeout_s
            # The order of the job, not of registration, so that the numbers do not depend on who came first.
            present = {client.name for client in engine.get_clients()}
            sites = [name for name in config.sites if name in present]
            sites += sorted(present - set(sites))
            self._coordinator = Coordinator(
                config, sites, home_folder(fl_ctx), run_folder(fl_ctx), choose_device(config.runtime)
            )
        except MucaldError as error:
            self.system_panic(str(error), fl_ctx)
            return
        serve(engine.get_cell(), fl_ctx.get_job_id(), self._coordinator.server.handle)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run all rounds and the test."""
        coordinator = self._coordinator
        if coordinator is None:
            return
        try:
            for task in coordinator.tasks():
                self._run(coordinator, task, abort_signal, fl_ctx)
                if abort_signal.triggered:
                    return
                coordinator.close(task)
            coordinator.finish()
        except (MucaldError, OSError) as error:
            # An OSError is a full disk, for example; complete rounds are in their checkpoints.
            self.system_panic(str(error), fl_ctx)

    def _run(self, coordinator: Coordinator, task: SiteTask, abort: Signal, fl_ctx: FLContext) -> None:
        """Do one task: whoever has a turn answers, fails, or runs out of time before the next turn."""
        coordinator.open(task)
        for sites in coordinator.turns():
            self._hand_out(coordinator, task, sorted(sites), abort, fl_ctx)
            if abort.triggered:
                return

    def _hand_out(
        self, coordinator: Coordinator, task: SiteTask, sites: list[str], abort: Signal, fl_ctx: FLContext
    ) -> None:
        """Broadcast a task to ``sites`` and wait for them."""

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001 - FLARE names it
            self._take(coordinator, client_task.client.name, client_task.result)

        def sent(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001 - FLARE names it
            # A site asks for a task a second time if its process was killed and started again.
            again = client_task.task_send_count > 0
            (coordinator.restart if again else coordinator.begin)(client_task.client.name)

        broadcast = Task(
            name=task.kind,
            data=task_to_shareable(task, fl_ctx.get_engine().get_cell().get_fqcn()),
            timeout=self._task_timeout,
            before_task_sent_cb=sent,
            result_received_cb=received,
        )
        self.broadcast(broadcast, fl_ctx, targets=sites, min_responses=len(sites))
        self._wait(coordinator, broadcast, abort)
        if not abort.triggered:
            for site in coordinator.awaited:
                limit = f" within {self._task_timeout} s" if self._task_timeout else ""
                coordinator.fail(site, f"no answer{limit}; its job process or its host has ended")

    def _wait(self, coordinator: Coordinator, broadcast: Task, abort: Signal) -> None:
        """Return when FLARE has ended the task, or when all sites but silent ones have answered it."""
        silent = False
        while broadcast.completion_status is None:
            silent |= bool(coordinator.leave_out_silent())
            if abort.triggered:
                self.cancel_task(broadcast, TaskCompletionStatus.ABORTED)
            elif silent and not coordinator.awaited:
                self.cancel_task(broadcast)
            else:
                time.sleep(_POLL_S)

    @staticmethod
    def _take(coordinator: Coordinator, site: str, result: Shareable) -> None:
        if result.get_return_code() != ReturnCode.OK:
            # A site's own words, which go into the log and the results: one line of bounded length.
            reason = " ".join(str(result.get_header(REASON, result.get_return_code())).split())
            coordinator.fail(site, reason[:_MAX_REASON])
            return
        try:
            coordinator.receive(site, result.get(REPORT))
        except WireError as error:
            coordinator.fail(site, str(error))

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is left open: checkpoints are written at the end of each round."""

    def process_result_of_unknown_task(
        self,
        client: Client,
        task_name: str,
        client_task_id: str,  # noqa: ARG002
        result: Shareable,  # noqa: ARG002
        fl_ctx: FLContext,
    ) -> None:
        """Ignore a report that comes after its task has ended; the site was left out of that round."""
        self.log_warning(fl_ctx, f"late report of site '{client.name}' for {task_name} is ignored")
