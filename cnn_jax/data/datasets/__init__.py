"""The datasets: what is known of each, how it is prepared, and how it is read."""
