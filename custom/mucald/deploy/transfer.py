"""The folder ``transfer`` of an admin's kit: the console submits what lies there by its name."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from mucald.config.schema import read_json
from mucald.deploy.kit_checks import MENDED, Finding
from mucald.deploy.kits import Kit
from mucald.deploy.submission import SIGNATURES, exported
from mucald.errors import ConfigError, MucaldError
from mucald.state.files import write_atomically

FOLDER = "transfer"
RECORD = ".jobs.json"
"""The hash of each job as it was written; a job that still has it may be written anew."""


def fill(kit: Kit, jobs: Path, write: bool = True, force: bool = False) -> tuple[list[str], list[Finding]]:
    """Write jobs into an admin's ``transfer`` as they are submitted; a second call changes nothing.

    A job that was edited since it was written is written anew. What people have put into ``transfer`` or
    edited there stays.

    Args:
        kit: the admin's start-up kit.
        jobs: a folder of job folders.
        write: whether to write; if not, what would be written is among the findings.
        force: replace what people have put there under the name of a job.

    Returns:
        the names of the jobs that were written, and what is to be known of the others.

    Raises:
        ConfigError: there is no job, or the record of an earlier call is damaged.
    """
    transfer = kit.folder / FOLDER
    folders = sorted(path.parent for path in jobs.glob("*/meta.json"))
    if not folders:
        raise ConfigError(f"{jobs} holds no job folder")
    before = read_json(transfer / RECORD) if (transfer / RECORD).exists() else {}
    record = dict(before)
    written, texts = [], []
    for job in folders:
        target = transfer / job.name
        try:
            with exported(job) as new:
                wanted, found = _digest(new), _digest(target)
                if found not in (None, wanted, before.get(job.name)) and not force:
                    texts.append(f"{target} is not {job} as it is submitted, and stays; --force replaces it")
                elif found != wanted and not write:
                    state = f"older than {job}" if found else "missing"
                    texts.append(f"{target} is {state}{MENDED}")
                else:
                    record[job.name] = wanted
                    if found != wanted:
                        _replace(target, new)
                        written.append(job.name)
        except MucaldError as error:
            texts.append(f"{job} cannot be submitted: {error}")
    if write and record != before:
        write_atomically(transfer / RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return written, [Finding(text, hinders=False) for text in (*texts, *_with_code(transfer))]


def _with_code(transfer: Path) -> Iterator[str]:
    # A folder of jobs may have been copied there whole. What download_job fetches lies deeper.
    found = (*transfer.glob("*/app/custom"), *transfer.glob("*/*/app/custom"))
    for name in sorted({path.relative_to(transfer).parts[0] for path in found}):
        yield (
            f"{transfer / name} has a folder app/custom, so sites that forbid custom code refuse it; "
            f"'mucald export-job' writes a job without"
        )


def _digest(folder: Path) -> str | None:
    """Return a hash of a job's files, but for signatures of its last submission; None if it is not there."""
    if not folder.exists():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.match(SIGNATURES))
    content = {str(path.relative_to(folder)): path.read_bytes().hex() for path in files}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _replace(target: Path, new: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    shutil.copytree(new, target)
