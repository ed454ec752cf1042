"""Models: tokens, the encoder, heads, baselines and checkpoints."""
