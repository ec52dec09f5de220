"""A job folder as FLARE's job API takes it, so that SimEnv, PocEnv and ProdEnv run it as any other job."""

import subprocess
import sys
from pathlib import Path

from nvflare.job_config.api import FedJob
from nvflare.private.fed.app.utils import kill_child_processes

from mucald.deploy.submission import export_job
from mucald.methods.jobs import load_job


class FolderJob(FedJob):
    """A job that is a folder of the repository instead of a list of components.

    Args:
        folder: the job folder.

    Raises:
        ConfigError: the job is wrong.
    """

    def __init__(self, folder: Path):
        config, self.sites = load_job(folder)
        super().__init__(name=config.name)
        self._folder = folder

    def export_job(self, job_root: str) -> None:
        """Write the job into ``job_root/<name>`` as it is submitted; one from before is replaced."""
        export_job(self._folder, Path(job_root) / self.name, force=True)

    def simulator_run(
        self,
        workspace: str,
        n_clients: int | None = None,
        clients: list[str] | None = None,
        threads: int | None = None,
        gpu: str | None = None,
        log_config: str | None = None,
    ) -> int:
        """Run the job in FLARE's simulator and return the process's exit status; an interruption ends it.

        The simulator gets the folder with its marker under ``app/custom``: like FLARE's own jobs it may then
        name classes that are not FLARE's.
        """
        del n_clients  # the job names its sites
        module = "nvflare.private.fed.app.simulator.simulator"
        command = [sys.executable, "-m", module, str(self._folder), "-w", workspace]
        command += ["-c", ",".join(clients or self.sites)]
        for option, value in (("-t", threads), ("-gpu", gpu), ("-l", log_config)):
            command += [] if value is None else [option, str(value)]
        # In a session of its own: Ctrl-C is then ours to handle, and FLARE's processes print no tracebacks.
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                return process.wait()
            except BaseException:
                kill_child_processes(process.pid)
                process.kill()
                raise
