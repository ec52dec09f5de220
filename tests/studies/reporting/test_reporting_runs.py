import json

import numpy as np
import pytest
from results_files import method, results_like, write_results

from mucald.errors import ReportError
from mucald.results.results import SCHEMA
from mucald_studies.reporting.comparability import choose_reference, differences, require_comparable
from mucald_studies.reporting.runs import find_runs, flatten, group_runs
from mucald_studies.reporting.statistics import MEAN, compare_all

DICE = {"north": [0.5, 0.6, 0.7], "south": [0.8, None, 0.9]}


@pytest.fixture
def like(full):
    def make(job="mucald", seed=7, dice=DICE, **changes):
        return results_like(full.run.results, job, seed, dice, **changes)

    return make


def test_every_results_file_below_a_place_is_found(tmp_path, like):
    for job, seed in (("mucald", 7), ("mucald", 8), ("alone", 7)):
        write_results(tmp_path / "runs", like(job, seed))
    runs = find_runs([tmp_path / "runs"])
    assert {(run.job, run.seed) for run in runs} == {("mucald", 7), ("mucald", 8), ("alone", 7)}
    assert len(find_runs([tmp_path / "runs/mucald/seed-7/results.json"])) == 1


def test_a_copy_of_the_same_run_counts_once_and_hidden_folders_not_at_all(tmp_path, like):
    top = write_results(tmp_path, like())
    copy = top.parent / "workspace/server/results.json"
    copy.parent.mkdir(parents=True)
    copy.write_text(top.read_text())
    write_results(tmp_path / ".replaced", like("old"))
    (run,) = find_runs([tmp_path, top.parent])
    assert run.path == top


def test_methods_are_jobs_with_their_seeds_in_order(tmp_path, like):
    for job, seed in (("mucald", 9), ("mucald", 7), ("alone", 8)):
        write_results(tmp_path, like(job, seed))
    alone, mucald = group_runs(find_runs([tmp_path]))
    assert (alone.label, mucald.label) == ("alone", "mucald")
    assert list(mucald.runs) == [7, 9]
    assert mucald.first.seed == 7


def test_configurations_of_one_job_are_methods_of_their_own(tmp_path, like):
    write_results(tmp_path / "a", like())
    write_results(tmp_path / "b", like(config__aggregation__rule="local", config__training__rounds=5))
    write_results(tmp_path / "b", like(seed=8, config__aggregation__rule="local", config__training__rounds=5))
    labels = {m.label: list(m.runs) for m in group_runs(find_runs([tmp_path]))}
    assert labels == {
        "mucald (aggregation.rule=equal, training.rounds=2)": [7],
        "mucald (aggregation.rule=local, training.rounds=5)": [7, 8],
    }


def test_what_does_not_decide_the_numbers_makes_no_method_of_its_own(tmp_path, like):
    write_results(tmp_path, like())
    write_results(tmp_path, like(seed=8, config__description="other words", config__runtime__threads=2))
    (only,) = group_runs(find_runs([tmp_path]))
    assert list(only.runs) == [7, 8]


def test_scores_are_seeds_by_images_with_holes(like):
    scores = method(like(), like(seed=8, dice={"north": [0.1, 0.2, 0.3]})).scores("south")
    np.testing.assert_array_equal(scores, [[0.8, np.nan, 0.9], [np.nan] * 3])
    with pytest.raises(ReportError, match="unequally many images"):
        method(like(), like(seed=8, dice={"north": [0.1]})).scores("north")


def test_settings_by_dotted_key():
    content = {"a": {"b": 1, "c": {"d": [2]}}, "e": {}}
    assert flatten(content) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_damaged_foreign_and_missing_files_are_refused_with_their_name(tmp_path, like):
    with pytest.raises(ReportError, match=r"no results.json at or below .*empty"):
        find_runs([tmp_path / "empty"])
    path = write_results(tmp_path, like(schema=0))
    with pytest.raises(ReportError, match=rf"seed-7/results.json has schema 0, but .* reads {SCHEMA}"):
        find_runs([tmp_path])
    path.write_text('{"schema": ')
    with pytest.raises(ReportError, match=r"seed-7/results.json: .* not valid JSON"):
        find_runs([tmp_path])
    content = like()
    del content["wire"]
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match="lacks 'wire'"):
        find_runs([tmp_path])


def test_two_runs_of_one_seed_are_refused(tmp_path, like):
    write_results(tmp_path / "a", like())
    write_results(tmp_path / "b", like(run_id="mucald-20260202-000000"))
    with pytest.raises(ReportError, match=r"two runs of mucald have seed 7: .*a/.* and .*b/"):
        group_runs(find_runs([tmp_path]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config__training__rounds": 3}, "passes over the images 3 instead of 2"),
        ({"config__training__local_epochs": 4}, "passes over the images 8 instead of 2"),
        ({"config__training__batch_size": 1}, "batch_size 1 instead of 2"),
        ({"config__release__pretraining_epochs": 9}, "passes over the images 11 instead of 2"),
        ({"config__data__image_size": 32}, "image_size 32 instead of 16"),
        ({"sites__north__source": "own images (pairs)"}, "source of site 'north' own images"),
        ({"sites__north__n_train": 99}, "n_train of site 'north' 99 instead of 4"),
        ({"dice": {"north": [0.5] * 4, "south": DICE["south"]}}, "n_test of site 'north' 4 instead of 3"),
        ({"dice": {"north": DICE["north"]}}, "site 'south' tested in one of them only"),
    ],
)
def test_other_data_or_another_budget_is_refused_with_the_reason(like, change, reason):
    reference, other = method(like()), method(like("other", **change))
    with pytest.raises(ReportError) as error:
        require_comparable([reference, other], reference)
    assert "cannot be compared with mucald" in str(error.value)
    assert f"other: {reason}" in str(error.value)
    assert "--allow-different-budgets" in str(error.value)
    assert list(differences([reference, other], reference)) == ["other"]


def test_another_method_on_the_same_data_and_budget_is_accepted(like):
    reference, other = method(like()), method(like("other", config__crdm__encoder="none"))
    require_comparable([reference, other], reference)


def test_a_seed_of_the_reference_itself_that_differs_is_refused(like):
    reference = method(like(), like(seed=8, sites__north__n_train=5))
    with pytest.raises(ReportError, match="n_train of site 'north' 5 instead of 4"):
        require_comparable([reference], reference)


def test_the_reference_is_mucald_or_what_is_asked_for(like):
    mucald, alone = method(like()), method(like("alone"))
    assert choose_reference([alone, mucald], None) is mucald
    assert choose_reference([alone, mucald], "alone") is alone
    assert choose_reference([alone], None) is alone
    with pytest.raises(ReportError, match="no methods are called 'alon'; choose one of 'alone', 'mucald'"):
        choose_reference([alone, mucald], "alon")


def test_the_reference_among_several_configurations_of_its_job(tmp_path, like):
    for number, job in enumerate(("alone", "mucald", "mucald")):
        write_results(tmp_path / str(number), like(job, config__losses__proximal=0.5 * number))
    methods = group_runs(find_runs([tmp_path]))
    assert choose_reference(methods, None).label == "mucald (losses.proximal=0.5)"
    assert choose_reference(methods, "mucald (losses.proximal=1.0)").label == "mucald (losses.proximal=1.0)"
    with pytest.raises(ReportError, match="several methods are called 'mucald'; choose one of 'mucald "):
        choose_reference(methods, "mucald")


def test_all_comparisons_share_one_correction_and_use_common_seeds(like):
    rising = [0.3 + 0.02 * i for i in range(12)]
    reference = method(like(dice={"north": rising}), like(seed=8, dice={"north": rising}))
    better = [min(1.0, value + 0.05 + 0.001 * i) for i, value in enumerate(rising)]
    own = method(like("own", seed=8, dice={"north": better}), like("own", seed=9, dice={"north": rising}))
    odd = method(like("odd", dice={"north": better}))
    found = compare_all([reference, own, odd], reference, ["north"], excluded=["odd"])
    assert set(found) == {("own", "north"), ("own", MEAN)}
    # All twelve differences are positive: p = 2/2^12, twice for two tests.
    assert found["own", "north"].p == pytest.approx(2 * 2 / 2**12)
    assert found["own", "north"].better
    stranger = method(like("stranger", seed=1, dice={"north": better}))
    assert compare_all([reference, stranger], reference, ["north"], excluded=[]) == {}
