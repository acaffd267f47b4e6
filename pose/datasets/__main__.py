"""python -m pose.datasets FOLDER: what of a dataset is usable, what is not, and why."""

import argparse
import sys

from pose.datasets.check import check, open_dataset


def main(argv: list[str] | None = None) -> int:
    """Prints a report; 0 when everything is usable, 1 when something is not, 2 when the folder is no dataset."""
    parser = argparse.ArgumentParser(prog="python -m pose.datasets", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument(
        "--kind", choices=("beat", "beat2", "show", "ted", "zeroeggs"), help="told from the files if left out"
    )
    args = parser.parse_args(argv)
    try:
        report = check(open_dataset(args.folder, args.kind))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(report.text())
    return 1 if report.unusable else 0


if __name__ == "__main__":
    sys.exit(main())
