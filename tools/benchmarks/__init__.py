"""Measured speed, all in one run: loading beside other libraries' and bare decoding, steps beside torchvision's."""
