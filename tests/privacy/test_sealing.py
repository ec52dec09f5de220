"""What is sealed opens with its key, for its context, and no other way."""

import pytest

from mucald.data.site_file import SITE_FILE
from mucald.errors import DataError, WireError
from mucald.privacy.sealing import OVERHEAD, group_key, key_file, opened, run_key, seal, write_key

KEY = bytes(range(32))
CONTENT = b"front and back end" * 100


def test_it_opens_with_the_key_and_shows_nothing_without():
    sealed = seal(KEY, CONTENT, "north, round 1")
    assert opened(KEY, sealed, "north, round 1") == CONTENT
    assert len(sealed) == len(CONTENT) + OVERHEAD
    assert CONTENT[:8] not in sealed
    assert sealed != seal(KEY, CONTENT, "north, round 1"), "no nonce comes twice"


@pytest.mark.parametrize("position", [0, 12, -1])
def test_what_has_changed_on_its_way_is_refused(position):
    sealed = bytearray(seal(KEY, CONTENT, "north, round 1"))
    sealed[position] ^= 1
    with pytest.raises(WireError, match="'north, round 1' does not open"):
        opened(KEY, bytes(sealed), "north, round 1")


@pytest.mark.parametrize(
    ("key", "context"),
    [(KEY[::-1], "north, round 1"), (KEY, "north, round 2"), (KEY, "west, round 1")],
    ids=["key", "round", "site"],
)
def test_another_key_round_or_site_does_not_open_it(key, context):
    with pytest.raises(WireError, match="does not open"):
        opened(key, seal(KEY, CONTENT, "north, round 1"), context)


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(OVERHEAD)])
def test_what_is_no_seal_is_refused(sealed):
    with pytest.raises(WireError, match="does not open"):
        opened(KEY, sealed, "north, round 1")


def test_runs_have_keys_of_their_own():
    first, second = run_key(KEY, "run-1"), run_key(KEY, "run-2")
    assert first != second
    assert len(first) == len(KEY)
    assert first == run_key(KEY, "run-1")


def test_a_site_keeps_the_key_for_itself(tmp_path):
    path = write_key(tmp_path, "kvasir", KEY)
    assert path == key_file(tmp_path, "kvasir")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert group_key(tmp_path, "north", "kvasir", 7) == KEY
    for name in ("../kvasir", "", ".."):
        with pytest.raises(DataError, match="has no name for a file"):
            write_key(tmp_path, name, KEY)


def test_a_site_with_images_needs_a_key_and_one_with_phantoms_has_one(tmp_path):
    assert group_key(tmp_path, "north", "kvasir", 7) == group_key(tmp_path / "x", "west", "kvasir", 7)
    assert group_key(tmp_path, "north", "kvasir", 7) != group_key(tmp_path, "north", "kvasir", 8)
    (tmp_path / SITE_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"no key of the group 'kvasir'.*mucald group-key") as caught:
        group_key(tmp_path, "north", "kvasir", 7)
    assert caught.value.public == "site 'north' has no key of the group 'kvasir'"
    key_file(tmp_path, "kvasir").parent.mkdir()
    for damaged in ("", "no hex", KEY.hex()[2:]):
        key_file(tmp_path, "kvasir").write_text(damaged)
        with pytest.raises(DataError, match="is damaged"):
            group_key(tmp_path, "north", "kvasir", 7)
