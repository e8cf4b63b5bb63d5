"""`python -m bench.score`: completions that were made elsewhere, scored like a run's arms."""

import sys

from bench.cli.score import main

if __name__ == "__main__":
    sys.exit(main())
