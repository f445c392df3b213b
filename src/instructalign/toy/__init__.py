"""A made-up language family with a known truth: the offline default, and a test bench."""
