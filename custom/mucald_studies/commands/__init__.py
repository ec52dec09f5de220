"""Verbs of the studies, see :mod:`mucald.commands`, which finds them where they are installed."""

from mucald.commands import Group

GROUPS = (
    Group(
        "Studies",
        __name__,
        {
            "compare": "compare the families of methods: what each achieves, and what it discloses",
            "experiments": "run jobs with several seeds",
            "page": "write the results of one run as a page",
            "report": "make one report of many runs",
            "attack": "attack a run: what its messages or weights gave away",
            "frontier": "draw what a job is good for against what it gives away",
            "learning-curve": "draw what joining brings against the number of images",
            "consortium": "deal public image sets out to eight sites",
            "cardiac": "deal the cardiac MR set out to four sites",
            "hold-out": "halve a public image set, for a site and its attacker",
            "discover-graph": "learn a causal graph of a task",
        },
    ),
    Group(
        "Studies of embeddings",
        "mucald_studies.generative",
        {"synthetic": "measure synthetic embeddings against ε"},
    ),
    Group(
        "For developers",
        __name__,
        {
            "bench": "measure what a federation costs",
            "network-table": "print the sizes of networks and latents",
            "contact-sheet": "draw phantoms of each task",
        },
    ),
)
