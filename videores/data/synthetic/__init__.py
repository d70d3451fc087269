"""Write the embedded data sets, whose answers are known.

sprites    shapes, textures and paths, rendered as frames
sounds     tones in noise
datasets   motion8, appear8, mixed16, order8, small, motiontone, motionhue: their scenes, and the files of a set
answers    the class backwards, and where the sprite is
"""
