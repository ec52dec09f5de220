import numpy as np
import pytest

from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.canvas import ellipse, smooth_noise
from mucald.methods.split.causal.graphs import CAUSAL_TASKS
from mucald.randomness import generator
from mucald.tasks import TASKS, Task

ALL_TASKS = pytest.mark.parametrize("task", [TASKS[name] for name in PHANTOMS], ids=PHANTOMS)


@ALL_TASKS
@pytest.mark.parametrize("size", [16, 40, 64])
def test_every_image_holds_every_class(task: Task, size: int) -> None:
    for index in range(40):
        image, mask = PHANTOMS[task.name](generator("phantom", index), size)
        assert image.shape == (size, size, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert np.unique(mask).tolist() == list(range(task.n_classes))


@ALL_TASKS
def test_equal_keys_draw_equal_phantoms_and_others_differ(task: Task) -> None:
    first, again, other = (PHANTOMS[task.name](generator("phantom", key), 32) for key in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


@ALL_TASKS
def test_the_scene_does_not_depend_on_the_size(task: Task) -> None:
    _, small = PHANTOMS[task.name](generator("phantom", 3), 48)
    _, large = PHANTOMS[task.name](generator("phantom", 3), 144)
    assert (large[1::3, 1::3] == small).mean() > 0.99


@pytest.mark.parametrize("name", [name for name in PHANTOMS if name in CAUSAL_TASKS])
def test_proxies_are_defined_and_vary(name: str) -> None:
    samples = [PHANTOMS[name](generator("phantom", index), 48) for index in range(30)]
    values = np.array([CAUSAL_TASKS[name].measures.of(*sample) for sample in samples])
    assert np.isfinite(values).all()
    assert (values.std(axis=0) > 0.005 * np.abs(values.mean(axis=0))).all()


@ALL_TASKS
def test_brightness_alone_does_not_solve_the_task(task: Task) -> None:
    """However a threshold on the grey level is chosen, the Dice of some class stays below 0.8."""
    samples = [PHANTOMS[task.name](generator("phantom", index), 48) for index in range(20)]
    grey = np.stack([image.mean(axis=-1) for image, _ in samples])
    guesses = [guess for limit in range(5, 255, 10) for guess in (grey < limit, grey >= limit)]
    best = []
    for label in range(1, task.n_classes):
        truth = np.stack([mask == label for _, mask in samples])
        best.append(max(2 * (guess & truth).sum() / (guess.sum() + truth.sum()) for guess in guesses))
    assert min(best) < 0.8


def test_tasks_look_different() -> None:
    """Mean image and mean colour differ between any two tasks by far more than between two halves of one."""

    def mean_image(task: Task, start: int) -> np.ndarray:
        return np.mean(
            [PHANTOMS[task.name](generator("look", i), 16)[0] for i in range(start, start + 24)],
            axis=0,
            dtype=float,
        )

    tasks = [TASKS[name] for name in ("blastocyst", "ham10k", "fetal", "mosmed", "kvasir")]
    first, second = ([mean_image(task, start) for task in tasks] for start in (0, 24))
    distance = np.array([[np.abs(a - b).mean() for b in second] for a in first])
    between = distance[~np.eye(len(tasks), dtype=bool)]
    assert between.min() > 2 * distance.diagonal().max()


def test_smooth_noise_has_unit_variance_at_every_size() -> None:
    for size in (32, 96):
        noise = np.stack([smooth_noise(generator("noise", i), size, 6) for i in range(200)])
        assert noise.std() == pytest.approx(1, abs=0.05)
        assert np.abs(np.diff(noise, axis=2)).mean() < 0.6 * 32 / size


def test_ellipse_depth_is_zero_on_its_outline() -> None:
    depth = ellipse(200, (0.1, -0.2), (0.5, 0.25), 0.0)
    assert (depth > 0).sum() * (2 / 200) ** 2 == pytest.approx(np.pi * 0.5 * 0.25, rel=0.01)
