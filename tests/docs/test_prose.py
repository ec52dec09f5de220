"""Documents for newcomers are short and plain, and words are those of the glossary."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_job import REPOSITORY

from mucald.methods import FAMILIES
from mucald.methods.jobs import load_job
from mucald.privacy.disclosure import KINDS

LONGEST = 30
"""Words of a sentence."""
OTHER_WORDS = {
    r"clients?": "site",
    r"institutions?": "site",
    r"silos?": "site",
    r"hyper-?parameters?": "key",
    r"smashed data": "latent",
    r"global (model|weights)": "shared network, shared weights",
    r"local model": "the site's network",
    r"server(-side|'s) model": "middle network",
    r"(central|aggregation) server": "server",
    r"(communication|federated) rounds?": "round",
    r"(model|weight) updates?": "update",
    r"snapshots?": "checkpoint",
    r"adversary": "attack, attacker",
    r"label maps?": "mask",
    r"segmentation (maps?|masks?)": "mask",
    r"hand-?off": "hand-over",
    r"privacy budget": "ε, δ",
    r"(weight|gradient) leakage": "attack",
    r"optimizers?": "optimiser",
    r"normali[z]\w+": "normalisation",
    r"colors?": "colour",
    r"behaviors?": "behaviour",
}
"""What others call what the glossary calls otherwise, as patterns; and American spellings."""
OF_OTHERS = {
    "docs/method.md": {"clients?"},  # what is cited or compared with
    "docs/operations.md": {"clients?"},  # commands of FLARE's console
}
"""Pages that have to tell of others in the words of these."""
OF_FLARE = ("custom/mucald/flare/", "custom/mucald/deploy/", "custom/mucald_studies/benchmark/carriers/")
"""Code whose names FLARE decides."""
KNOWN = {
    "BMP",
    "CPU",
    "CT",
    "FLARE",
    "GPU",
    "JPEG",
    "MB",
    "JSON",
    "MONAI",
    "MR",
    "MRI",
    "PNG",
    "SGD",
    "TIFF",
    "TLS",
}
"""Abbreviations that every reader knows: files, machines, devices, libraries."""
PLAIN_SECTIONS = {
    "data",
    "distillation",
    "downstream",
    "losses",
    "network",
    "optimiser",
    "privacy",
    "runtime",
    "training",
}
"""Sections of ``mucald.json`` whose names mean what every reader of this field takes them for."""
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


def test_every_section_of_a_job_is_a_word_or_plain():
    sections: set[str] = set()
    for path in REPOSITORY.glob("jobs/*/meta.json"):
        content = load_job(path.parent)[0].to_dict()
        sections |= {name for name, value in content.items() if isinstance(value, dict)}
    assert sections > PLAIN_SECTIONS
    words = {re.sub(r"[ -]", "", word.casefold()) for word in glossary()}
    for section in sections - PLAIN_SECTIONS:
        assert {section, section.removesuffix("s")} & words, section


def others_in(text: str) -> set[str]:
    """Return the patterns of other words that a text has."""
    return {word for word in OTHER_WORDS if re.search(rf"(?i)(?<![\w`.-]){word}(?![\w`-]|\.\w)", text)}


def own_words(source: str) -> Iterator[str]:
    """Yield what authors of code chose to write: docstrings, comments, names of functions and arguments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield re.sub(r"``[^`]*``|:\w+:`[^`]*`", "", ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name.replace("_", " ")
        elif isinstance(node, ast.arg):
            yield node.arg.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def test_other_words_are_found_where_authors_write_them():
    assert others_in("Each Client has one.") == {"clients?"}
    assert others_in("the `client`, client.crt and min_clients") == set()
    source = 'def min_clients(workers, x=torch.optim):\n    """Hyperparameters of ``a client``."""  # silo\n'
    assert set().union(*map(others_in, own_words(source))) == {"clients?", r"hyper-?parameters?", "silos?"}


PAGES = [*sorted(REPOSITORY.glob("docs/*.md")), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_documents_have_no_other_words(path):
    name = str(path.relative_to(REPOSITORY))
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = others_in(" ".join(text.split())) - OF_OTHERS.get(name, set())
    assert not found, {word: OTHER_WORDS[word] for word in found}


def test_newcomers_read_no_word_of_other_projects():
    for name in NEWCOMERS:
        assert "activations" not in " ".join(sentences(read(name))), f"{name}: say 'latent'"


def test_code_has_no_other_words():
    found = {}
    for path in sorted(REPOSITORY.glob("custom/**/*.py")):
        name = str(path.relative_to(REPOSITORY))
        words = set().union(*map(others_in, own_words(path.read_text(encoding="utf-8"))))
        if words and not name.startswith(OF_FLARE):
            found[name] = {word: OTHER_WORDS[word] for word in words}
    assert not found


def test_every_word_of_the_glossary_is_used():
    text = " ".join(path.read_text(encoding="utf-8") for path in PAGES if path.name != "glossary.md")
    plain = " ".join(text.split()).casefold()
    for word in glossary():
        ending = "(ies|s)?" if word.isascii() else ""
        assert re.search(rf"(?<!\w){re.sub('y$', '', word.casefold())}y?{ending}(?!\w)", plain), word


def abbreviations(path: Path) -> set[str]:
    """Return the abbreviations in a page's sentences and tables, no code and no links."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|<!--.*?-->|\$`[^`]*`\$|`[^`\n]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    # Venues come with a year, emphasis is no abbreviation.
    text = re.sub(r"\b[A-Z]+ (?=\d{4})|\b(?:WITHOUT|TOGETHER)\b", "", text)
    return set(re.findall(r"(?<![\w/_-])[A-Z]{2,}(?![\w-])", text))


def test_abbreviations_of_more_than_one_page_are_in_the_glossary():
    pages = defaultdict(set)
    for path in PAGES:
        for word in abbreviations(path) if path.name != "glossary.md" else ():
            pages[word].add(path.name)
    common = {word for word, names in pages.items() if len(names) > 1}
    assert {"CRDM", "SNR", "PSNR"} <= common
    assert not common - set(glossary()) - KNOWN


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("docs/*.md")), ids=lambda path: path.name)
def test_every_page_is_in_the_list_of_pages(path):
    assert path.name == "README.md" or f"]({path.name})" in read("docs/README.md")
