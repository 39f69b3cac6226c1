"""Brown et al. 2020, arXiv:2005.14165: the sizes of GPT-3."""

SIZES = {
    "GPT-3-Small": (12, 768),
    "GPT-3-Medium": (24, 1024),
    "GPT-3-Large": (24, 1536),
    "GPT-3-XL": (24, 2048),
    "GPT-3-2.7B": (32, 2560),
    "GPT-3-6.7B": (32, 4096),
    "GPT-3-13B": (40, 5120),
    "GPT-3-175B": (96, 12288),
}
"""Layers and width, table 2.1; the 13B's is printed as 5140, which 40 heads of 128 do not make."""
