"""Says before a run what a site is going to train on, for nothing is worse than phantoms in images' place."""

from pathlib import Path

from mucald.config.job import JobConfig
from mucald.data.records.layouts import SPLITS, find_records
from mucald.data.records.splits import split_records
from mucald.data.site_file import SITE_FILE, has_site_file, read_site_file
from mucald.errors import explained
from mucald.tasks import get_task


def data_line(site: str, config: JobConfig, home: Path) -> str:
    """Return in words what a site is going to train on: its own set and its folder, or phantoms and why.

    Args:
        site: name of the site.
        config: the job.
        home: the site's folder.
    """
    try:
        path = home / SITE_FILE
        if has_site_file(home):
            return f"site '{site}' trains on {_own(path)}"
        counts = _counts(*(getattr(config.data.phantoms, split) for split in SPLITS))
        task = config.site(site).task
        return f"site '{site}' trains on phantoms of {task} ({counts}): there is no {path}{_near(path)}"
    except Exception as error:  # noqa: BLE001 - the run itself leaves the site out, for the same reason
        return f"site '{site}' has nothing to train on: {explained(error, reading=home)}"


def _own(path: Path) -> str:
    site_file = read_site_file(path)
    if get_task(site_file.task).input == "embedding":
        # Its imports would take every other site's process time.
        from mucald.data.embeddings.loader import own_set
        from mucald.data.embeddings.splits import rows_by_split

        rows = rows_by_split(own_set(site_file, get_task(site_file.task)), site_file)
        counts = _counts(*map(len, rows.values()))
        return f"embeddings of {site_file.task} ({counts}): those of {site_file.root}"
    splits = split_records(find_records(site_file), site_file)
    counts = _counts(*(len(splits[split]) for split in SPLITS))
    what = f"{get_task(site_file.task).input}s"
    if site_file.datalist is not None:
        return f"{what} of {site_file.task} ({counts}): those of {site_file.datalist}"
    return f"{what} of {site_file.task} ({counts}): those of {site_file.root}, layout {site_file.layout}"


def _counts(train: int, validation: int, test: int) -> str:
    return f"{train} to train, {validation} to validate, {test} to test"


def _near(path: Path) -> str:
    """Return what is there in place of a site file, or of its folder, if it is called nearly so."""
    folder = path.parent
    if folder.is_dir():
        found = [other for other in folder.iterdir() if other.name.casefold().startswith(path.stem)]
    elif folder.parent.is_dir():
        name = folder.name.casefold()
        found = [other for other in folder.parent.iterdir() if other.name.strip().casefold() == name]
    else:
        found = []
    return f" (there is {min(found).name})" if found else ""
