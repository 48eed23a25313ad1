"""State, optimiser, step, loop, evaluation and checkpoints."""
