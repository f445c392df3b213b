"""From instructions to an adapted model: encoding, batches, strategies, the loop, checkpoints."""
