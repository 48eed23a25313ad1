"""The live page: draw, choose or drop an image, and watch every layer of one network or of two."""
