"""What the benchmarks share: a stage to measure on. A question has a file of its own, one folder up."""
