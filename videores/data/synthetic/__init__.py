"""Write the embedded data sets, whose answers are known.

sprites    shapes, textures and paths, rendered as frames
datasets   motion8, appear8, mixed16, order8 and small: their scenes, and the files of a set
"""
