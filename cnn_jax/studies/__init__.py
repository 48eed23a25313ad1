"""Studies: arms x seeds, their statistics and what is measured besides accuracy."""
