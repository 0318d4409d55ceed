"""What the pipeline costs, as ratios to a straightforward path measured in the same run; see docs/performance.md."""
