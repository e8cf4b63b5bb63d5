"""`python -m bench.judge_audit`: what a judge's verdicts, and the labels it is held against, are worth."""

import sys

from bench.cli.audit import main

if __name__ == "__main__":
    sys.exit(main())
