"""From per-case scores to estimates, comparisons and figures."""
