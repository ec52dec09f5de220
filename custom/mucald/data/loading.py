"""A site's data, ready to train on: its own samples if it has a site file, phantoms otherwise."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mucald.config.common import DataConfig
from mucald.config.job import JobConfig
from mucald.data.embeddings.loader import EmbeddingLoader
from mucald.data.images.loader import ImageLoader
from mucald.data.measures import Measures, MeasuresOf, no_measures
from mucald.data.site_data import Loaded, SiteData
from mucald.data.site_file import SITE_FILE, SiteFile, has_site_file, noise_secret, read_site_file
from mucald.data.volumes.loader import VolumeLoader
from mucald.errors import ConfigError
from mucald.tasks import Input, Task, get_task


class Loader(Protocol):
    """Knows one kind of input: its files, how they are made to fit a network, and phantoms."""

    def own(
        self, home: Path, site_file: SiteFile, task: Task, data: DataConfig, measures: Measures
    ) -> Loaded:
        """Read a site's own samples.

        Raises:
            DataError: a file is missing or wrong.
        """

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read each of a site's own samples once, and return their number.

        Raises:
            DataError: a file is missing or wrong.
        """

    def phantoms(
        self, site: str, task: Task, data: DataConfig, seed: int, measures: Measures, scanner: str
    ) -> Loaded:
        """Draw samples, other ones for every seed and site, as the device ``scanner`` shows them.

        Raises:
            ConfigError: the task has no phantoms, or there is no such device.
        """


LOADERS: dict[Input, Loader] = {
    "image": ImageLoader(),
    "volume": VolumeLoader(),
    "embedding": EmbeddingLoader(),
}
"""What loads each kind of input."""


def loader_of(task: Task) -> Loader:
    """Return what loads the samples of a task.

    Raises:
        ConfigError: nothing does.
    """
    if task.input not in LOADERS:
        raise ConfigError(
            f"task '{task.name}' has samples of the kind {task.input}, which nothing loads "
            f"(known: {', '.join(LOADERS)})"
        )
    return LOADERS[task.input]


def load_site_data(
    site: str,
    task_name: str | None,
    data: DataConfig,
    seed: int,
    home: Path | None,
    measures_of: MeasuresOf = no_measures,
    scanner: str = "standard",
) -> SiteData:
    """Load a site's samples if ``<home>/site.json`` is there, or else draw phantoms of ``task_name``.

    Args:
        site: name of the site; its phantoms differ from other sites'.
        task_name: the task that the job gives the site, if any. A site file names its own.
        data: how samples are made to fit the network, and how many phantoms to draw.
        seed: the job's seed, which phantoms depend on and a site's own samples and their splits do not.
        home: the site's folder.
        measures_of: what to measure in samples of a task.
        scanner: the device that phantoms are taken with.

    Raises:
        ConfigError: the site has no task or an unknown one, job and site file disagree on it, or no phantoms
            are wanted.
        DataError: the site file or a sample's file is missing or wrong.
    """
    if home is not None and has_site_file(home):
        return _own(site, task_name, data, home, measures_of)
    if task_name is None:
        raise ConfigError(
            f"site '{site}' has no task: put a {SITE_FILE} that names task and images into its folder, "
            f"or set sites.{site}.task in the job to draw phantoms"
        )
    for name in ("train", "validation", "test"):
        if (count := getattr(data.phantoms, name)) < 1:
            raise ConfigError(f"data.phantoms.{name} must be at least 1, not {count}")
    task = get_task(task_name)
    return SiteData(
        task,
        *loader_of(task).phantoms(site, task, data, seed, measures_of(task.name), scanner),
        tensorboard_images=True,
        noise_secret=phantom_secret(seed),
        source="phantoms",
    )


def load_for(
    site: str, config: JobConfig, home: Path, pictures: bool, measures_of: MeasuresOf = no_measures
) -> SiteData:
    """Load what a job needs of a site.

    ``pictures`` says whether its policy allows any; its ``site.json`` must too. Other arguments and errors
    are those of :func:`load_site_data`.
    """
    chosen = config.site(site)
    data = load_site_data(site, chosen.task, config.data, config.seed, home, measures_of, chosen.scanner)
    return replace(data, tensorboard_images=data.tensorboard_images and pictures)


def phantom_secret(seed: int) -> str:
    """Return what the noise on phantoms is drawn from; nothing about them is private."""
    return f"job seed {seed}"


def _own(site: str, task_name: str | None, data: DataConfig, home: Path, measures_of: MeasuresOf) -> SiteData:
    site_file = read_site_file(home / SITE_FILE)
    if task_name is not None and task_name != site_file.task:
        raise ConfigError(
            f"the job gives site '{site}' the task '{task_name}', its {SITE_FILE} '{site_file.task}'; "
            f"remove sites.{site}.task from the job or correct the site file"
        )
    task = get_task(site_file.task)
    return SiteData(
        task,
        *loader_of(task).own(home, site_file, task, data, measures_of(task.name)),
        tensorboard_images=site_file.tensorboard_images,
        noise_secret=noise_secret(site_file, home),
        source=f"own {task.input}s ({site_file.layout or 'datalist'})",
    )
