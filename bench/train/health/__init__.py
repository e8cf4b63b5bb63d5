"""Every trainer watches itself: what is wrong in plain words, what to try, and a stop before weights become NaN."""
