"""Data: TFDS source, index plan, feed, augmentation."""
