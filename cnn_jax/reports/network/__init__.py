"""The inside of a network: its filters, images on their way through it, its layers."""
