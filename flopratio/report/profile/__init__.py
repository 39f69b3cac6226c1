"""A profile for people and for files: what it shows, and how each format writes it."""
