import pytest
from tiny_job import tiny_content

from mucald_studies.benchmark.codec import AS_SHIPPED, choices, paper_bytes, report


def run(bytes_per_step, dice):
    training = {"rounds": 2, "local_epochs": 3}
    return {
        "wire": {"bytes_per_image_step": bytes_per_step, "bytes_up": 600, "bytes_down": 1200},
        "config": {"training": training, "data": {"image_size": 16}, "release": {"mode": "fresh"}},
        "sites": {"north": {"n_train": 10}, "south": {"n_train": 20}},
        "mean": {"test": {"dice": dice}},
    }


def test_the_papers_bytes_are_the_ones_it_states():
    assert paper_bytes(256) == pytest.approx(33.6e6, rel=0.002)


def test_every_direction_is_tried_alone_beside_all_at_once():
    found = dict(choices(tiny_content()["wire"] | {"pipeline_depth": 2}, ["int8"], ["int8"]))
    assert list(found)[:3] == ["float32", AS_SHIPPED, "all int8"]
    assert found[AS_SHIPPED] == tiny_content()["wire"]
    single = found["latent int8"]
    assert single.pop("latent") == "int8"
    assert set(single.values()) == {"float32"}
    assert len(found) == 3 + 4


def test_dice_and_bytes_are_held_to_their_limits_as_means_over_seeds():
    paper = paper_bytes(16)
    found = {"float32": [run(paper / 10, 0.9), run(paper / 10, 0.8)]}
    found[AS_SHIPPED] = [run(paper / 150, 0.9), run(paper / 50, 0.78)]
    result = report(found)
    bytes_check, dice_check = result.checks
    assert bytes_check.value == pytest.approx((1 / 150 + 1 / 50) / 2)
    assert not bytes_check.passed
    assert dice_check.value == pytest.approx(0.01)
    assert not dice_check.passed
    assert result.figures["float32"]["whole"] == 1800 / (30 * 6)
