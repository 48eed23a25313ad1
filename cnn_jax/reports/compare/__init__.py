"""The page that puts runs beside each other."""
