"""The colours of a graph, the same in every format."""

from __future__ import annotations

INK, FAINT = "#222222", "#666666"
FORWARD, FORWARD_FILL = "#0072B2", "#E3F0F8"
BACKWARD, BACKWARD_FILL = "#C04A00", "#FDEEE4"
SAVED, SAVED_FILL = "#A66F00", "#F6DFA4"
GIVEN_FILL = "#F0F0F0"
"""The dark ones are from Okabe and Ito's palette, or darker so that they can be read as text."""
