"""Pages for a browser: each is one document that needs nothing from anywhere else."""
