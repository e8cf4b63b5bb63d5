"""Speed and memory of the trainers and of the sampler against their peers, measured: `python -m bench.perf --help`."""
