import copy

import pytest

from mucald.config.merge import differences, overridden
from mucald.errors import ConfigError

BASE = {
    "seed": 7,
    "sites": {"a": {"task": "x"}, "b": {"task": "y"}},
    "release": {"t": 300, "noised": True, "deep": {"width": 1, "height": 2}},
    "aggregation": {"rule": "mixed", "args": {"toward": {"rule": "equal", "args": {"c": 1}}}},
    "algorithm": {"name": "plain", "args": {}},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"seed": 8}, {"seed": 8}),
        ({"release.t": 1}, {"release": {"t": 1, "noised": True, "deep": {"width": 1, "height": 2}}}),
        ({"release": {"t": 1}}, {"release": {"t": 1, "noised": True, "deep": {"width": 1, "height": 2}}}),
        (
            {"release": {"deep": {"width": 3}}, "release.t": 1},
            {"release": {"t": 1, "noised": True, "deep": {"width": 3, "height": 2}}},
        ),
        (
            {"release": {"deep.width": 3}},
            {"release": {"t": 300, "noised": True, "deep": {"width": 3, "height": 2}}},
        ),
        # What names a rule or a name is replaced whole, for the other keys belong to that choice.
        ({"aggregation": {"rule": "local"}}, {"aggregation": {"rule": "local"}}),
        ({"algorithm": {"name": "other"}}, {"algorithm": {"name": "other"}}),
        (
            {"aggregation.args.toward": {"rule": "local"}},
            {"aggregation": {"rule": "mixed", "args": {"toward": {"rule": "local"}}}},
        ),
        (
            {"aggregation.args.toward.args.c": 2},
            {"aggregation": {"rule": "mixed", "args": {"toward": {"rule": "equal", "args": {"c": 2}}}}},
        ),
        # So are its arguments: another rule's may be given beside it.
        (
            {"aggregation.rule": "floored", "aggregation.args": {"floor": 2}},
            {"aggregation": {"rule": "floored", "args": {"floor": 2}}},
        ),
        # A job that names sites names all of them.
        ({"sites": {"c": {"task": "z"}}}, {"sites": {"c": {"task": "z"}}}),
        ({"sites.a.task": "z"}, {"sites": {"a": {"task": "z"}, "b": {"task": "y"}}}),
        # A value that is no section takes the place of one; reading then refuses it.
        ({"release": 3}, {"release": 3}),
        ({"seed": {"x": 1}}, {"seed": {"x": 1}}),
    ],
)
def test_changes_go_into_the_base_and_nothing_else_changes(changes, expected):
    base, before = copy.deepcopy(BASE), copy.deepcopy(changes)
    assert overridden(base, changes) == BASE | expected
    assert (base, changes) == (BASE, before)


def test_the_result_shares_nothing_with_base_or_changes():
    value = {"rule": "local", "args": {"x": [1]}}
    merged = overridden(BASE, {"aggregation": value})
    merged["aggregation"]["args"]["x"].append(2)
    merged["release"]["deep"]["width"] = 9
    assert value["args"] == {"x": [1]}
    assert BASE["release"]["deep"]["width"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sede": 1}, r"there is no key 'sede'; did you mean 'seed'\?"),
        ({"release.noise": 1}, r"there is no key 'release.noise'; did you mean 'release.noised'\?"),
        ({"relese.t": 1}, r"there is no key 'relese.t'; did you mean 'release.t'\?"),
        ({"release": {"noise": 1}}, r"there is no key 'release.noise'; did you mean 'release.noised'\?"),
        ({"release": {"deep": {"widht": 1}}}, r"'release.deep.widht'; did you mean 'release.deep.width'\?"),
        # A key without its section.
        ({"noised": False}, r"there is no key 'noised'; did you mean 'release.noised'\?"),
        ({"t": 1}, r"there is no key 't'; did you mean 'release.t'\?"),
        ({"seed.x": 1}, r"there is no key 'seed.x'; did you mean 'seed'\?"),
        ({"sites.c.task": "z"}, r"there is no key 'sites.c.task'; did you mean 'sites.[ab].task'\?"),
        ({"algorithm.args.epochs": 1}, "there is no key 'algorithm.args.epochs'"),
        ({"": 1}, "there is no key ''"),
        ({"release.": 1}, "there is no key 'release.'"),
    ],
)
def test_a_key_that_the_base_does_not_have_is_refused_with_the_nearest(changes, message):
    with pytest.raises(ConfigError, match=message):
        overridden(BASE, changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"release.t": 1, "release": {"t": 2}}, "release.t"),
        (
            {"aggregation": {"rule": "local"}, "aggregation.args.toward": {"rule": "x"}},
            "aggregation.args.toward",
        ),
        (
            {"aggregation.args.toward": {"rule": "x"}, "aggregation": {"rule": "local"}},
            "aggregation.args.toward",
        ),
        ({"sites": {"a": {"task": "x"}}, "sites.a.task": "z"}, "sites.a.task"),
    ],
)
def test_a_key_that_is_set_twice_is_refused(changes, key):
    with pytest.raises(ConfigError, match=f"'{key}' is set twice"):
        overridden(BASE, changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"release": {"t": 1, "noised": True}, "seed": 8}, {"seed": 8, "release.t": 1}),
        ({"sites.a.task": "z"}, {"sites": {"a": {"task": "z"}, "b": {"task": "y"}}}),
        (
            {"algorithm": {"name": "plain", "args": {"x": 1}}},
            {"algorithm": {"name": "plain", "args": {"x": 1}}},
        ),
    ],
)
def test_differences_are_the_changes_that_make_the_one_of_the_other(changes, expected):
    content = overridden(BASE, changes)
    assert differences(BASE, content) == expected
    assert overridden(BASE, differences(BASE, content)) == content
