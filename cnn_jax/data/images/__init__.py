"""Images on disk: decoding them, reading them one by one, and keeping them decoded."""
