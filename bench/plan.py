"""`python -m bench.plan`: what a run will take, before it starts."""

import sys

from bench.cli.plan import main

if __name__ == "__main__":
    sys.exit(main())
