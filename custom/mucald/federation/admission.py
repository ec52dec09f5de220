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
    late = [site for site, of_site in config.sites.items() if of_site.joins_at_round]
    if late and not family.takes_sites_in:
        raise ConfigError(
            f"sites.{late[0]}.joins_at_round: the method '{config.method}' takes no sites in later; leave "
            "it out"
        )
    first = len(participants) - len(set(late) & set(participants))
    if first < config.min_sites:
        raise ConfigError(f"{first} sites take part, but min_sites is {config.min_sites}")
