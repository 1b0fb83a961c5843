"""Publishing: compact checkpoints and model cards."""
