"""Whose image is whose, by a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mucald.config.schema import read_bytes
from mucald.data.files import count, same_form
from mucald.data.records.layouts import Record, check_cases
from mucald.errors import DataError

_SURPLUS = "\n"
"""Stands for the cells beyond the last column."""
_PUBLIC = "the site's table of patients is wrong"


def read_patients(path: Path, file_column: str, case_column: str) -> dict[str, str]:
    """Read a CSV table with a row per image; return the patient by the image's name as the table has it.

    Raises:
        DataError: the file is missing or no table, lacks a column or has it twice, a row lacks a cell or has
            too many, or an image has two patients.
    """
    try:
        stream = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        reader = csv.DictReader(stream, restkey=_SURPLUS)
        columns = list(reader.fieldnames or [])
        table = list(reader)
    except FileNotFoundError:
        raise DataError(
            f"{path}: it does not exist; give a table with the columns '{file_column}' and '{case_column}'",
            public=_PUBLIC,
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})", public=_PUBLIC) from None
    for column in (file_column, case_column):
        if column not in columns:
            raise DataError(f"{path}: no column '{column}'; it has {', '.join(columns)}", public=_PUBLIC)
        if columns.count(column) > 1:
            raise DataError(
                f"{path}: several columns are called '{column}'; rename all but one", public=_PUBLIC
            )
    patients: dict[str, str] = {}
    for row in table:
        if _SURPLUS in row:
            raise DataError(
                f"{path}: a row has more cells than columns: {list(row.values())}; put values with a comma "
                "into quotation marks",
                public=_PUBLIC,
            )
        name, case = same_form((row[file_column] or "").strip()), (row[case_column] or "").strip()
        if not name or not case:
            raise DataError(f"{path}: a row lacks '{file_column}' or '{case_column}': {row}", public=_PUBLIC)
        if patients.setdefault(name, case) != case:
            raise DataError(
                f"{path}: '{name}' has the patients '{patients[name]}' and '{case}'", public=_PUBLIC
            )
    return patients


def with_patients(records: Sequence[Record], patients: Mapping[str, str]) -> tuple[list[Record], list[str]]:
    """Return the records with their patients as cases, and how many rows name no image, in words.

    Args:
        records: the images.
        patients: by the image file's name, with or without its ending.

    Raises:
        DataError: an image has no patient or two, or a patient is written in two ways.
    """
    found, used = [], set()
    for record in records:
        name = same_form(record.images[0].name)
        known = [key for key in (name, _stem(name), record.case) if key in patients]
        if not known:
            raise DataError(f"{record.images[0]}: the table names no patient for '{name}'", public=_PUBLIC)
        named = {patients[key]: key for key in known}
        if len(named) > 1:
            rows = " and ".join(f"'{patient}' ('{key}')" for patient, key in named.items())
            raise DataError(
                f"{record.images[0]}: the table names the patients {rows}; keep one", public=_PUBLIC
            )
        used.update(known)
        found.append(replace(record, case=patients[known[0]]))
    check_cases(found)
    words = count(len(patients.keys() - used), "row", "rows")
    return found, [f"{words} of the table of patients: no such image"] * (patients.keys() > used)


def _stem(name: str) -> str:
    stem = Path(name).stem
    return Path(stem).stem if stem.endswith(".nii") else stem
