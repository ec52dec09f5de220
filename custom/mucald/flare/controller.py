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
from mucald.flare import memory
from mucald.flare.channel import serve
from mucald.flare.protocol import REASON, outcome_from_shareable, task_to_shareable
from mucald.flare.workspace import home_folder, job_config, run_folder
from mucald.methods import family_of

_POLL_S = 0.2
_MAX_REASON = 1000


class FederationController(Controller):
    """Runs a job: one task per site and round, and steps over the cell channel for methods that take some.

    Tasks of a round are handed out as the coordinator says: to all sites at once, or to one after the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._coordinator: Coordinator | None = None
        self._sent_tensors = False

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Build the server's half and open the channel; a wrong job ends with its reason."""
        engine = fl_ctx.get_engine()
        memory.settle()
        try:
            config = job_config(fl_ctx)
            self.log_info(fl_ctx, config.log_line())
            torch.set_num_threads(config.runtime.threads)
            self._task_timeout = config.runtime.task_timeout_s
            # The order of the job, not of registration, so that the numbers do not depend on who came first.
            present = {client.name for client in engine.get_clients()}
            sites = [name for name in config.sites if name in present]
            sites += sorted(present - set(sites))
            home, folder, device = home_folder(fl_ctx), run_folder(fl_ctx), choose_device(config.runtime)
            self._coordinator = Coordinator(family_of(config.method), config, sites, home, folder, device)
        except MucaldError as error:
            self.system_panic(str(error), fl_ctx)
            return
        serve(engine.get_cell(), fl_ctx.get_job_id(), self._coordinator.handle)

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
                if self._sent_tensors:
                    memory.release()
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
        """Give every one of ``sites`` the task, and wait for all."""

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001 - FLARE names it
            self._take(coordinator, client_task.client.name, client_task.result)

        def sent(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001 - FLARE names it
            # A site asks for a task a second time if its process was killed and started again.
            again = client_task.task_send_count > 0
            (coordinator.restart if again else coordinator.begin)(client_task.client.name)

        server, handed_out = fl_ctx.get_engine().get_cell().get_fqcn(), []
        for site in sites:
            # A task of its own for each, because each may bring other tensors.
            payload = coordinator.payload(site, task)
            self._sent_tensors |= bool(payload)
            handed_out.append(
                Task(
                    name=task.kind,
                    data=task_to_shareable(task, payload, server),
                    timeout=self._task_timeout,
                    before_task_sent_cb=sent,
                    result_received_cb=received,
                )
            )
            self.broadcast(handed_out[-1], fl_ctx, targets=[site], min_responses=1)
        self._wait(coordinator, handed_out, abort)
        if not abort.triggered:
            for site in coordinator.awaited:
                limit = f" within {self._task_timeout} s" if self._task_timeout else ""
                coordinator.fail(site, f"no answer{limit}; its job process or its host has ended")

    def _wait(self, coordinator: Coordinator, tasks: list[Task], abort: Signal) -> None:
        """Return when FLARE has ended the tasks, or when all sites but silent ones have answered theirs."""
        silent = False
        while open_tasks := [task for task in tasks if task.completion_status is None]:
            silent |= bool(coordinator.leave_out_silent())
            if abort.triggered or (silent and not coordinator.awaited):
                status = TaskCompletionStatus.ABORTED if abort.triggered else TaskCompletionStatus.CANCELLED
                for task in open_tasks:
                    self.cancel_task(task, status)
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
            coordinator.receive(site, *outcome_from_shareable(result))
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
