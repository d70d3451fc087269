"""Measured speed: our loader beside the decoding it can't do without and beside others' loaders, in one run."""
