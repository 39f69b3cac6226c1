"""Exact interpolation of whole-numbered functions of several KEYs, by rational arithmetic alone:
polynomials, with floors where sizes are rounded. It knows nothing of networks, and needs no torch.
"""

from flopratio.closed_form.axis import Axis
from flopratio.closed_form.interpolate import Fit, Refusal, interpolate
from flopratio.closed_form.largest import Largest
from flopratio.closed_form.polynomial import Floor, Polynomial

__all__ = ["Axis", "Fit", "Floor", "Largest", "Polynomial", "Refusal", "interpolate"]
