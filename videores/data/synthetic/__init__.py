"""The embedded data sets, whose videos are written on first use: what can be known from what is proved.

sprites    shapes, textures and paths, rendered as frames
datasets   motion8, appear8, mixed16, order8 and small: their scenes, and the files of a set
"""
