"""Divide a site's records into training, validation and test, case by case."""

from collections.abc import Iterable
from dataclasses import replace

from mucald.data.records.layouts import SPLITS, Record
from mucald.data.site_file import FEWEST_CASES, SiteFile
from mucald.errors import DataError
from mucald.randomness import generator


def split_records(records: list[Record], site_file: SiteFile) -> dict[str, list[Record]]:
    """Divide records so that all of a case (patient, volume) fall into one split.

    Splits that the layout gives are kept; the others are drawn from the training cases. The draw depends on
    the cases' names alone, not on the job's seed, hence all jobs test on the same images.

    Raises:
        DataError: a case is in two splits, or there are too few cases to give every split one.
    """
    split_of: dict[str, str] = {}
    for record in records:
        if split_of.setdefault(record.case, record.split) != record.split:
            raise DataError(
                f"case '{record.case}' is in the splits '{split_of[record.case]}' and '{record.split}'; "
                "keep each patient in one",
                public="a case is in two splits",
            )
    cases = shuffled(split_of)[: site_file.max_cases]
    chosen = {name: [case for case in cases if split_of[case] == name] for name in SPLITS}
    shares = {"validation": site_file.split.validation, "test": site_file.split.test}
    total = len(chosen["train"])
    for name, share in shares.items():
        if not chosen[name]:
            count = max(1, round(share * total))
            chosen[name], chosen["train"] = chosen["train"][:count], chosen["train"][count:]
    for name in SPLITS:
        if not chosen[name]:
            raise DataError(
                f"no case is left for the split '{name}': {len(cases)} found, at least {FEWEST_CASES} needed "
                "(one each to train, validate and test)",
                public=f"too few cases: the split '{name}' is empty",
            )
    return {name: [record for record in records if record.case in set(chosen[name])] for name in SPLITS}


def divided(records: list[Record], site_file: SiteFile) -> tuple[list[Record], str | None]:
    """Return records with the split that a job uses, or as they are and why they cannot be divided."""
    try:
        chosen = split_records(records, site_file)
    except DataError as error:
        return records, str(error)
    return [replace(record, split=name) for name, own in chosen.items() for record in own], None


def shuffled(cases: Iterable[str]) -> list[str]:
    """Order cases by a draw from their names alone; a case more moves no two others past each other."""
    return sorted(cases, key=lambda case: (generator("split", case).random(), case))
