"""Batches: which examples each step sees, and how they get to the devices."""
