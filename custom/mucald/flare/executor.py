"""The FLARE executor: runs a site's task, with its steps over the cell channel."""

import re

import torch
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from mucald.device import choose_device
from mucald.errors import UnexpectedError, WireError, explained
from mucald.federation.method import SiteMethod
from mucald.federation.participant import create_site, data_lines, save_site_outputs
from mucald.flare import memory
from mucald.flare.channel import ChannelSender
from mucald.flare.protocol import failure_to_shareable, outcome_to_shareable, task_from_shareable
from mucald.flare.workspace import home_folder, job_config, run_folder
from mucald.methods import family_of


class MethodExecutor(Executor):
    """Runs one site.

    The simulator may start a new process for every task, so all state between tasks is on disk; a process
    that lives on keeps it in memory too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sites: dict[str, SiteMethod] = {}
        memory.settle()

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Do one task; a failure is logged here in full and reported without private details."""
        try:
            return self._execute(task_name, shareable, fl_ctx, abort_signal)
        except Exception as error:  # noqa: BLE001 - its text may hold a path, so FLARE must not forward it
            told = explained(error)
            # A defect of ours is logged with its traceback, for a report; it stays in the site's own log.
            (self.log_exception if isinstance(told, UnexpectedError) else self.log_error)(fl_ctx, str(told))
            return failure_to_shareable(told)

    def _execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        config = job_config(fl_ctx)
        torch.set_num_threads(config.runtime.threads)
        task, received, server = task_from_shareable(task_name, shareable)
        site = self._site(task.run_id, fl_ctx)
        cell = fl_ctx.get_engine().get_cell()
        sender = ChannelSender(cell, server, config.runtime.step_timeout_s, abort_signal)
        outcome = site.run(task, received, sender)
        if task.kind == "test":
            save_site_outputs(site, config, run_folder(fl_ctx))
        if received:
            memory.release()
        return outcome_to_shareable(outcome)

    def _site(self, run_id: str, fl_ctx: FLContext) -> SiteMethod:
        if not re.fullmatch(r"[\w.-]+", run_id):
            raise WireError("the server sent a run id that is not a plain name")
        if run_id not in self._sites:
            name, config = fl_ctx.get_identity_name(), job_config(fl_ctx)
            self.log_info(fl_ctx, config.log_line())
            family, home = family_of(config.method), home_folder(fl_ctx)
            for line in data_lines(family, name, config, home):
                self.log_info(fl_ctx, line)
            device = choose_device(config.runtime)
            self._sites = {run_id: create_site(family, name, config, home, run_id, device)}
        return self._sites[run_id]
