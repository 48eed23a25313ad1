"""Data: datasets, images, batches, augmentation."""
