"""Regions of nnU-Net: classes that ``dataset.json`` tells as sets of stored values that may overlap."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mucald.errors import DataError
from mucald.tasks import Task

_PUBLIC = "the site's image set does not have the layout that site.json names"


def has_regions(description: Mapping[str, Any]) -> bool:
    """Return whether labels of a ``dataset.json`` are regions."""
    return description.get("regions_class_order") is not None


def region_values(path: Path, description: Mapping[str, Any], task: Task) -> dict[int, int]:
    """Return the class of each stored value, as nnU-Net lays regions over each other: the last one wins.

    So the class of a region is what no region after it holds: of whole tumour, tumour core and enhancing
    tumour the first is the oedema.

    Args:
        path: the description.
        description: its ``labels`` tell values by region, background aside in the order of the classes.
        task: the site's.

    Raises:
        DataError: there are not as many regions as classes, or values are no numbers.
    """
    labels, order = description.get("labels"), description["regions_class_order"]
    regions: list[list[Any]] = []
    if isinstance(labels, dict):
        values = [value if isinstance(value, list) else [value] for value in labels.values()]
        regions = [value for value in values if value != [0]]
    wanted = task.n_classes - 1
    if len(regions) != wanted or not isinstance(order, list) or len(order) != wanted:
        raise DataError(
            f"{path}: 'labels' and 'regions_class_order' must tell {wanted} regions, for the classes "
            f"{', '.join(task.classes[1:])} of task {task.name}",
            public=_PUBLIC,
        )
    found = {0: 0}
    for label, region in enumerate(regions, 1):
        if not all(type(value) is int and value > 0 for value in region):
            raise DataError(f"{path}: 'labels': a region is a list of numbers, not {region}", public=_PUBLIC)
        found |= dict.fromkeys(region, label)
    lost = set(range(1, task.n_classes)) - set(found.values())
    if lost:
        name = task.classes[min(lost)]
        raise DataError(
            f"{path}: the regions after '{name}' hold all of it; change their order", public=_PUBLIC
        )
    return found
