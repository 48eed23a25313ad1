"""python -m cnn_jax."""

import sys

from cnn_jax.start import main

if __name__ == "__main__":
    sys.exit(main())
