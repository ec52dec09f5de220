"""What is checked before a run begins."""

from mucald.config.job import JobConfig, check_site_names
from mucald.errors import ConfigError
from mucald.federation.method import Family
from mucald.tasks import get_task


def check_participants(family: Family, config: JobConfig, participants: list[str]) -> None:
    """Check that those who take part fit the job.

    Raises:
        ConfigError: two share a name, there are fewer than ``min_sites``, a site has no task or an unknown
            one, or the method cannot join them.
    """
    check_site_names(participants)
    for site in config.sites.values():
        get_task(site.task)
    family.check(config, participants)
    if len(participants) < config.min_sites:
        raise ConfigError(f"{len(participants)} sites take part, but min_sites is {config.min_sites}")
