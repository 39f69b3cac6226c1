"""The published claims, each a short script that computes what it says.

``python -m experiments`` runs them all, ``python -m experiments depth batch_size`` some.
"""
