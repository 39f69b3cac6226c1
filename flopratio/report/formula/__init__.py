"""A closed form as people, SymPy, LaTeX and Python read it."""
