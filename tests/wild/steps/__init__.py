"""The steps, one file a theme."""
