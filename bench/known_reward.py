"""`python -m bench.known_reward experiment=tldr_controlled data.root=PATH`: whom a known reward puts above whom."""

import sys

from bench.cli.known_reward import main

if __name__ == "__main__":
    sys.exit(main())
