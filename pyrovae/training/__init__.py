"""Training: `fit`, its steps, checkpoints, history, hooks and several processes."""
