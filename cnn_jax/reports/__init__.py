"""Reports: self-contained HTML pages about a run or a study, and their figures."""
