"""Motion deblurring from pairs of photographs to a CPU picture server."""

__version__ = "0.1.0"
