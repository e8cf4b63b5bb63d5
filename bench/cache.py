"""`python -m bench.cache`: what is kept below a results folder, and how to drop some of it."""

import sys

from bench.cli.cache import main

if __name__ == "__main__":
    sys.exit(main())
