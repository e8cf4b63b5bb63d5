"""`python -m bench`: the comparison. `python -m bench --help` is the manual."""

import sys

from bench.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
