"""Print what the releases of a job can tell at most, and what that means.

Usage: ``python tools/privacy_account.py jobs/mucald``; add ``--images-per-case 20`` where a patient has
several images, such as the slices of a volume. Nothing is run: the account follows from the configuration.
"""

import argparse
import sys
from pathlib import Path

from mucald.privacy.accountant import DELTA, Account, Bound, account, meaning

from mucald.errors import MucaldError
from mucald.methods.jobs import load_job

HEADER = ("what leaves", "times", "error floor", "μ", f"ε at δ = {DELTA:g}")
NONE = "no bound"


def table(of: Account) -> str:
    """Return the Markdown table of an account: one row per split's latents, and one of feature gradients."""
    rows = [HEADER, ("---", *["---:"] * (len(HEADER) - 1))]
    rows += [_row(f"latent, {split}", bound) for split, bound in of.latents.items()]
    rows.append(_row("feature gradient", of.feature_gradients))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _row(what: str, bound: Bound) -> tuple[str, ...]:
    numbers = (bound.error_floor, bound.mu, bound.epsilon)
    return (what, str(bound.releases), *(NONE if n is None else f"{n:.3g}" for n in numbers))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument("--images-per-case", type=int, default=1, help="most images of a patient; 1")
    arguments = parser.parse_args(argv)
    if arguments.images_per_case < 1:
        parser.error("--images-per-case must be at least 1")
    try:
        config, _ = load_job(arguments.job)
        of = account(config, arguments.images_per_case)
    except MucaldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    snr = "none" if of.snr is None else f"{of.snr:.3g}"
    print(
        f"{config.name}: {of.numbers} numbers per latent, SNR {snr} per release, "
        f"images per case: {of.images_per_case}\n\n{table(of)}\n"
    )
    print("\n".join(meaning(of)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
