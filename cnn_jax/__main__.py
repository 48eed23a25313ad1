"""python -m cnn_jax."""

import sys

from cnn_jax.launch import main

if __name__ == "__main__":
    sys.exit(main())
