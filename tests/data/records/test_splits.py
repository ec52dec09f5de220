from pathlib import Path
from typing import Any

import pytest

from mucald.data.records.layouts import Record
from mucald.data.records.splits import shuffled, split_records
from mucald.data.site_file import SiteFile, SplitFractions
from mucald.errors import DataError


def record(case: str, split: str = "train", image: str = "") -> Record:
    return Record((Path(image or case),), Path("m"), case, split)


def split(records: list[Record], **more: Any) -> dict[str, list[Record]]:
    return split_records(records, SiteFile(task="kvasir", root="x", layout="pairs", **more))


def test_sizes_and_completeness() -> None:
    records = [record(f"c{i}") for i in range(40)]
    parts = split(records, split=SplitFractions(0.1, 0.25))
    assert {name: len(part) for name, part in parts.items()} == {"train": 26, "validation": 4, "test": 10}
    assert {r.case for part in parts.values() for r in part} == {r.case for r in records}


def test_images_of_a_case_stay_together() -> None:
    parts = split([record(f"c{i % 10}", image=f"{i}.png") for i in range(50)])
    cases = [{r.case for r in part} for part in parts.values()]
    assert sum(map(len, cases)) == 10
    assert len(set.union(*cases)) == 10
    assert sum(map(len, parts.values())) == 50


def test_splits_depend_on_names_alone() -> None:
    records = [record(f"c{i}") for i in range(20)]
    again = split(records[::-1])
    assert {n: {r.case for r in p} for n, p in split(records).items()} == {
        n: {r.case for r in p} for n, p in again.items()
    }


def test_a_case_more_keeps_the_order_of_the_others() -> None:
    cases = [f"c{i}" for i in range(20)]
    assert [case for case in shuffled([*cases, "new"]) if case != "new"] == shuffled(cases)
    assert shuffled(cases) != cases


def test_given_splits_are_kept_and_missing_ones_drawn_from_training() -> None:
    given = [record(f"c{i}") for i in range(8)] + [record("t1", "test"), record("v1", "validation")]
    parts = split(given)
    assert [r.case for r in parts["test"]] == ["t1"]
    assert [r.case for r in parts["validation"]] == ["v1"]
    parts = split(given[:-1])
    assert [r.case for r in parts["test"]] == ["t1"]
    assert len(parts["validation"]) == 1
    assert len(parts["train"]) == 7


def test_max_cases_is_a_fixed_choice() -> None:
    records = [record(f"c{i}") for i in range(30)]
    parts = split(records, max_cases=10)
    assert {r.case for part in parts.values() for r in part} == set(shuffled(r.case for r in records)[:10])


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_cases(count: int) -> None:
    with pytest.raises(DataError, match=f"{count} found, at least 3 needed"):
        split([record(f"c{i}") for i in range(count)])


def test_three_cases_suffice() -> None:
    assert {name: len(part) for name, part in split([record(c) for c in "abc"]).items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }


def test_no_training_case_given() -> None:
    with pytest.raises(DataError, match="no case is left for the split 'train'"):
        split([record("a", "test"), record("b", "validation")])


def test_a_case_in_two_splits() -> None:
    with pytest.raises(DataError, match="case 'a' is in the splits 'train' and 'test'") as caught:
        split([record("a"), record("a", "test")])
    assert caught.value.public == "a case is in two splits"
