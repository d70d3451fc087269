"""videores: residual networks on video, how they overfit and what they cost."""

__version__ = "0.1.0"
