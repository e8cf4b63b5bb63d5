"""Do the intervals cover, and do decisions hold? Simulated worlds whose truth is known, a file per question."""
