"""`python -m jobsd`, and the script `jobsd`."""

import sys

from jobsd.cli.root import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
