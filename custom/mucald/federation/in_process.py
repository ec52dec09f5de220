"""All sites and the server in one process: the researcher's fast mode, and the yardstick for FLARE.

The messages are the same bytes as over FLARE, so the numbers are the same too.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mucald.config.job import JobConfig
from mucald.device import choose_device, settle_threads
from mucald.errors import InterruptedRunError, explained
from mucald.federation.coordinator import Coordinator
from mucald.federation.method import Family, Outcome, SiteMethod
from mucald.federation.participant import create_site, data_lines, save_site_outputs
from mucald.federation.task import SiteTask

log = logging.getLogger(__name__)


def run_in_process(
    family: Family,
    config: JobConfig,
    sites: Sequence[str],
    folder: Path,
    home: Callable[[str], Path],
    workers: int,
) -> dict[str, Any]:
    """Run a job from its first round, or from where it stopped, to its results.

    Args:
        family: the job's family of methods.
        config: the job.
        sites: names of those that take part.
        folder: where results go: ``folder/server`` and ``folder/<site>``.
        home: the folder of a participant's own files.
        workers: sites that run at once; the results do not depend on it.

    Returns:
        the content of ``results.json``.

    Raises:
        MucaldError: the job is wrong, or too few sites are left.
        InterruptedRunError: somebody pressed Ctrl-C; sites may still be at work in their threads.
    """
    torch.set_num_threads(config.runtime.threads)
    device = choose_device(config.runtime)
    for name in sites:
        for line in data_lines(family, name, config, home(name)):
            log.info("%s", line)
    coordinator = Coordinator(family, config, list(sites), home("server"), folder / "server", device)
    participants: dict[str, SiteMethod] = {}

    def work(name: str, task: SiteTask) -> Outcome:
        if name not in participants:
            participants[name] = create_site(family, name, config, home(name), task.run_id, device)
        site = participants[name]
        outcome = site.run(task, coordinator.payload(name, task), partial(coordinator.handle, name))
        if task.kind == "test":
            save_site_outputs(site, config, folder / name)
        return outcome

    pool = ThreadPoolExecutor(max_workers=workers, initializer=settle_threads)
    try:
        for task in coordinator.tasks():
            coordinator.open(task)
            for turn in coordinator.turns():
                futures = {name: pool.submit(work, name, task) for name in turn}
                for name, future in futures.items():
                    try:
                        outcome = future.result()
                        coordinator.receive(name, outcome.reports, outcome.payload)
                    except Exception as error:  # noqa: BLE001 - whatever ends a site ends it alone
                        # One process has one log, so the person who can mend it reads the whole message.
                        coordinator.fail(name, str(explained(error)))
            coordinator.close(task)
        return coordinator.finish()
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"stopped; to go on, give the same command with --resume-from {coordinator.run_id}"
        ) from None
    finally:
        # Who is interrupted does not wait for sites at work: what counts is in their checkpoints.
        pool.shutdown(wait=sys.exc_info()[0] is not InterruptedRunError, cancel_futures=True)
