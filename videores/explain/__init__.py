"""Say which pixels and frames decide, draw it, and check whether it is so.

maps         the methods: clips and a class -> maps_BTHW, each at its own resolution
layers       the layers of a network by name, and what one puts out for a clip
explanation  the maps of a video's clips, as its test sees them
choice       which videos: of a command line, or of a run's test
overlay      maps painted over frames and videos
checks       deletion, cascade, pointing game, against baselines; checking: on explained videos
responses    how much the blocks' branches add
record       what was explained into a folder
commands     tools/explain.py
"""
