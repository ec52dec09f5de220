"""A run under attack, whatever it left: recorded messages of split learning, or what sites share."""

from pathlib import Path

from mucald.config.schema import read_json
from mucald.errors import AttackError, ConfigError
from mucald_studies.attacks.harness.embedded import EmbeddedSubject
from mucald_studies.attacks.harness.recorded import RecordedSubject
from mucald_studies.attacks.harness.shared import SharedSubject
from mucald_studies.attacks.harness.subject import Subject
from mucald_studies.recording import Recording, read_recording
from mucald_studies.shared_run import RESULTS, GenerativeRun, SharedRun, read_kept

Run = Recording | SharedRun | GenerativeRun
"""What an attacker has of a run: see :func:`subject_of`. Both know the job, the run's name and its sites."""


_KEPT = ("weights", "generative")


def read_run(folder: Path) -> Run:
    """Open the run at or below ``folder``: a workspace, or its server's run folder.

    Raises:
        AttackError: the run's method leaves nothing that an attack reads, or there are several such runs.
        RecordingError: it is one of split learning, and its recording is missing or damaged.
    """
    methods = {path: _method(path) for path in sorted(folder.rglob(RESULTS))}
    kept = [path for path, method in methods.items() if method in _KEPT]
    if not kept:
        for path, method in methods.items():
            if method != "split":
                raise AttackError(
                    f"{path} is of a run of the method '{method}', in which nothing leaves a site; there is "
                    "nothing to attack"
                )
        return read_recording(folder)
    # Copies of the results may lie elsewhere; the server's have its models beside them.
    runs = {read_json(path)["run_id"]: path for path in sorted(kept, key=_is_servers)}
    if len(runs) > 1:
        places = ", ".join(str(path.parent) for path in runs.values())
        raise AttackError(f"{folder} holds several runs; name one: {places}")
    return read_kept(next(iter(runs.values())))


def subject_of(run: Run, site: str, home: Path, auxiliary_home: Path | None) -> Subject:
    """Return a site of a run, ready to be attacked; arguments are those of :class:`.Subject`."""
    if isinstance(run, SharedRun):
        return SharedSubject(run, site, home, auxiliary_home)
    if isinstance(run, GenerativeRun):
        return EmbeddedSubject(run, site, home, auxiliary_home)
    return RecordedSubject(run, site, home, auxiliary_home)


def _method(results: Path) -> str:
    try:
        content = read_json(results)
    except ConfigError as error:
        raise AttackError(f"{results}: {error}") from None
    return str(content.get("config", {}).get("method"))


def _is_servers(results: Path) -> bool:
    return (results.parent / "models").is_dir()
