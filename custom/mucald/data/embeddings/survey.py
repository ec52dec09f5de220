"""Look at a site's embedding set before it trains: where it comes from, its splits and its classes."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from mucald.data.embeddings.loader import own_set
from mucald.data.embeddings.sets import EmbeddingSet
from mucald.data.embeddings.splits import rows_by_split
from mucald.data.files import count
from mucald.data.images.summary import Summary
from mucald.data.site_file import SiteFile
from mucald.errors import DataError
from mucald.tasks import Task, get_task


@dataclass
class EmbeddingSurvey:
    """What was found.

    Args:
        task: the site's task.
        content: its set.
        rows: the rows of every split; empty if they cannot be divided.
        faults: why they cannot, if they cannot; the site then refuses to train.
    """

    task: Task
    content: EmbeddingSet
    rows: dict[str, list[int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """What is odd and hinders nothing."""
        found = []
        if still := int((self.content.embeddings.std(dim=0, correction=0) == 0).sum()):
            found.append(f"{still} of the {self.content.dimension} numbers are alike in all embeddings")
        splits: dict[bytes, set[str]] = {}
        for split, rows in self.rows.items():
            for row in rows:
                splits.setdefault(bytes(self.content.hashes[row].tolist()), set()).add(split)
        if twice := sum(len(names) > 1 for names in splits.values()):
            found.append(f"{count(twice, 'image is', 'images are')} in two splits; tests will look too good")
        if self.content.header.synthetic:
            found.append("the set is synthetic: no sample is anybody's")
        held = set(self.content.labels.tolist())
        return found + [f"no sample is {name}" for n, name in enumerate(self.task.classes) if n not in held]

    def tables(self) -> list[Summary]:
        """Return what was found as tables."""
        header = self.content.header
        made = [
            ["network", header.backbone],
            ["weights", header.weights[:12]],
            ["preprocessing", header.preprocessing],
            ["numbers of an embedding", str(self.content.dimension)],
            *([f"values of {name}", str(len(set(values)))] for name, values in header.groups.items()),
        ]
        labels, splits = self.content.labels, self.rows or {"all": list(range(len(self.content)))}
        samples = [
            [name, *(str(int((labels[rows] == n).sum())) for rows in splits.values())]
            for n, name in enumerate(self.task.classes)
        ]
        patients = [str(len({self.content.case(row) for row in rows})) for rows in splits.values()]
        total = [str(len(rows)) for rows in splits.values()]
        return [
            Summary("Made by", ("", "value"), made),
            Summary("Samples", ("class", *splits), [*samples, ["all", *total], ["patients", *patients]]),
        ]

    def write_files(self, path: Path) -> None:
        """Write a row per sample: patient, split, class, and what else is told of it."""
        content = self.content
        split_of = {row: name for name, rows in self.rows.items() for row in rows}
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["sample", "patient", "split", "class", *content.header.groups])
            for row in range(len(content)):
                label, others = int(content.labels[row]), content.header.groups.values()
                told = [content.case(row), split_of.get(row, ""), self.task.classes[label]]
                writer.writerow([row, *told, *(values[row] for values in others)])


def survey_embeddings(site_file: SiteFile) -> EmbeddingSurvey:
    """Read a site's set, and divide it as a run would.

    Raises:
        DataError: the set is missing, damaged, or of other classes.
    """
    task = get_task(site_file.task)
    found = EmbeddingSurvey(task, own_set(site_file, task))
    try:
        found.rows = rows_by_split(found.content, site_file)
    except DataError as error:
        found.faults.append(str(error))
    return found
