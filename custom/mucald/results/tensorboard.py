"""TensorBoard events: the server writes numbers, a site its own pictures into its own folder.

Results never depend on events; they are there to be looked at.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mucald.config.job import JobConfig
from mucald.metrics.names import names_of
from mucald.results.history import History

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from mucald.metrics.scoring import Previews

_PALETTE = torch.tensor(
    [[0, 0, 0], [230, 75, 53], [77, 187, 213], [0, 160, 135], [243, 155, 127]], dtype=torch.float32
)
_OPACITY = 0.5
_NO_SETTINGS = ("sites", "description", "resume_from")
PREVIEW_TAG = "image, labels, prediction/{site}"


def _writer(folder: Path) -> "SummaryWriter":
    # Imported where it is used: it takes a second, and most site processes write nothing.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


class ScalarWriter:
    """Writes a run's numbers, round by round.

    Args:
        folder: where the events go.
        config: the job.
        history: rounds of earlier sessions, which are written again so that the curves are whole.
    """

    def __init__(self, folder: Path, config: JobConfig, history: History):
        self._folder, self._config = folder, config
        self._losses: dict[str, None] = {}
        self._norms: dict[str, None] = {}
        self._has_layout = False
        for record in history.rounds:
            self.write_round(record)

    @cached_property
    def _writer(self) -> "SummaryWriter":
        """Opened with the first round: of a run that never had one, nothing stays."""
        return _writer(self._folder)

    def write_round(self, record: dict[str, Any]) -> None:
        """Write one round: loss terms, gradient norms, the method's own numbers, learning rates."""
        step = record["round"] + 1
        for site, entry in record["sites"].items():
            self._losses |= dict.fromkeys(entry["losses"])
            self._norms |= dict.fromkeys(entry["gradients"])
            for name, value in entry["losses"].items():
                self._writer.add_scalar(f"loss_{name}/{site}", value, step)
            for name, value in entry["gradients"].items():
                self._writer.add_scalar(f"gradient_norm_{name}/{site}", value, step)
        for group, numbers in record.items():
            if group != "sites" and isinstance(numbers, dict):
                for name, value in numbers.items():
                    self._writer.add_scalar(f"{group}/{name}", value, step)
        factor = self._config.rate(record["round"], 0, 1)
        for name, rate in self._config.learning_rates().items():
            self._writer.add_scalar(f"learning_rate/{name}", factor * rate, step)
        # TensorBoard takes the first layout that it finds; some losses begin in the second round.
        if step > 1:
            self._write_layout()
        self._writer.flush()

    def _write_layout(self) -> None:
        """Write TensorBoard's custom page once: for each loss one chart with a curve for each site."""
        if not self._has_layout:
            names = [names_of(site.task) for site in self._config.sites.values()]
            chapters = {
                "validation": [f"{each.primary}_validation" for each in names],
                "losses": [f"loss_{name}" for name in self._losses],
                "gradient norms": [f"gradient_norm_{name}" for name in self._norms],
                "test": [f"test_{name}" for each in names for name in each.metrics],
            }
            self._writer.add_custom_scalars(
                {
                    chapter: {name: ("Multiline", [f"^{name}/"]) for name in charts}
                    for chapter, charts in chapters.items()
                    if charts
                }
            )
            self._has_layout = True

    def close(self, results: dict[str, Any]) -> None:
        """Write validation and test scores, the factors of aggregation, the settings, and end the file."""
        for site, entry in results["sites"].items():
            names = names_of(entry["task"])
            for validation in entry["validation"]:
                score, step = validation[names.primary], validation["round"] + 1
                if score is not None:
                    self._writer.add_scalar(f"{names.primary}_validation/{site}", score, step)
            for choice in entry["aggregation"]:
                for block, factor in choice["factors"].items():
                    self._writer.add_scalar(f"factor_{block}/{site}", factor, choice["round"] + 1)
            for metric in names.metrics:
                if entry["test"] is not None and entry["test"][metric] is not None:
                    self._writer.add_scalar(f"test_{metric}/{site}", entry["test"][metric], 0)
        self._write_layout()
        self._write_settings(results)
        self._writer.close()

    def _write_settings(self, results: dict[str, Any]) -> None:
        """Write what decides the run, and its mean scores, for TensorBoard's table of runs."""
        from torch.utils.tensorboard.summary import hparams

        scores = {f"mean_test/{name}": value for name, value in results["mean"]["test"].items()}
        known = {name: value for name, value in scores.items() if value is not None}
        for name, value in known.items():
            self._writer.add_scalar(name, value, 0)
        events = self._writer._get_file_writer()
        for summary in hparams(_settings(self._config.to_dict()), known):
            events.add_summary(summary)


def _settings(config: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return the values of a configuration by dotted key; what is no number is a text."""
    found: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        name = prefix + key
        if isinstance(value, dict) and key != "sites":
            found |= _settings(value, f"{name}.")
        elif name not in _NO_SETTINGS:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def write_previews(folder: Path, site: str, previews: "Previews", step: int) -> None:
    """Write a site's example predictions: image, labels and prediction side by side, one row per image.

    Args:
        folder: the site's own event folder.
        site: its name.
        previews: what to show.
        step: number of complete rounds.
    """
    rows = [
        torch.cat([image, _overlay(image, labels), _overlay(image, prediction)], dim=2)
        for image, labels, prediction in zip(
            previews.images, previews.labels, previews.predictions, strict=True
        )
    ]
    writer = _writer(folder)
    writer.add_image(PREVIEW_TAG.format(site=site), torch.cat(rows, dim=1), step)
    writer.close()


def _overlay(image: Tensor, labels: Tensor) -> Tensor:
    colours = _PALETTE[labels.clamp(max=len(_PALETTE) - 1)].permute(2, 0, 1) / 255
    return torch.where((labels > 0)[None], (1 - _OPACITY) * image + _OPACITY * colours, image)
