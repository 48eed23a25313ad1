"""Looking at a run: the self-contained HTML report and its figures."""
