"""Networks behind one contract: ``[B, 3, H, W]`` in [-1, 1] to the same shape, any H and W."""

from deblur.models.unet import DeblurUNet

__all__ = ["DeblurUNet"]
