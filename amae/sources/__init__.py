"""Benchmark data sets: where they come from, how they are fetched, and their tables of images."""
