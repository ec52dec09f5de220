"""Documents for newcomers are short and plain, and words are those of the glossary."""

import re

import pytest
from tiny_job import REPOSITORY

from mucald.methods import FAMILIES
from mucald.privacy.disclosure import KINDS

LONGEST = 30
"""Words of a sentence."""
OTHER_WORDS = {
    "client": "site",
    "clients": "sites",
    "institution": "site",
    "hyperparameter": "key",
    "hyperparameters": "keys",
    "smashed data": "latent",
    "activations": "latent",
    "global model": "shared network",
}
"""What other projects call what the glossary calls otherwise."""
NEWCOMERS = ("README.md", "docs/tutorial.md", "docs/how-to.md")


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def sentences(text: str) -> list[str]:
    """Return the sentences of a document's prose: no code, no tables, links by their words."""
    text = re.sub(r"```.*?```|<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"(?m)^(\||#).*$", "\n", text)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    blocks = re.split(r"\n\s*\n|(?<=\n)\s*(?:[-*]|\d+\.) ", text)
    found = []
    for block in blocks:
        found += re.split(r"(?<=[.!?:])\s+(?=[A-Z`*…])", " ".join(block.split()))
    return [sentence for sentence in found if sentence]


def test_sentences_are_found():
    text = "# Title\n\nOne two. `Three` four: [five](six.md).\n\n- seven\n- eight\n\n| nine |\n\n```\nx\n```"
    assert sentences(text) == ["One two.", "`Three` four: five.", "seven", "eight"]


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_no_sentence_is_long(name):
    found = sentences(read(name))
    assert len(found) > 20
    long = {sentence for sentence in found if len(sentence.split()) > LONGEST}
    assert not long


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 120


def test_the_tour_fits_on_a_screen():
    assert len(read("docs/tour.md").splitlines()) <= 60


def glossary() -> list[str]:
    words = re.findall(r"(?m)^\| ([^|]+?) \|", read("docs/glossary.md"))
    return [word for row in words[2:] for word in row.split(", ")]


def test_the_glossary_has_each_word_once_and_in_order():
    words = glossary()
    assert len(words) > 60
    assert len(set(words)) == len(words)
    latin = [word.casefold() for word in words if word.isascii()]
    assert latin == sorted(latin, key=lambda word: word.replace("-", "").replace(" ", ""))


def test_every_kind_that_leaves_and_every_family_is_a_word():
    words = set(glossary())
    for name in (*KINDS, *FAMILIES):
        # "latents" is told as "latent"; the noise on a latent as noise.
        one = re.sub(r"s$", "", re.sub(r"ies$", "y", name))
        assert {name, one, name.split()[-1]} & words, name


@pytest.mark.parametrize("name", NEWCOMERS)
def test_newcomers_read_the_words_of_the_glossary(name):
    text = " ".join(sentences(read(name))).casefold()
    for other, ours in OTHER_WORDS.items():
        assert not re.search(rf"(?<![\w`-]){other}(?![\w`-])", text), f"{name}: say '{ours}', not '{other}'"


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("docs/*.md")), ids=lambda path: path.name)
def test_every_page_is_in_the_list_of_pages(path):
    assert path.name == "README.md" or f"]({path.name})" in read("docs/README.md")
