"""Trains and studies LeNet-5 and AlexNet: python launch.py --experiment=NAME (see --list, --help)."""

import sys

from cnn_jax.start import main

if __name__ == "__main__":
    sys.exit(main())
