"""Say which pixels and frames decide, and draw it.

maps       the methods: clips and a class -> maps_BTHW, each at its own resolution
layers     the layers of a network by name, and what one puts out for a clip
"""
