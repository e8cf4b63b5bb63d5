"""The stages, one file each, each with two functions that the engine calls (`bench.stages.context`)."""
