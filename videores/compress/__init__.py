"""Make a trained network smaller and faster: prune it, quantise it.

source         the run that is made smaller
structured     remove channels with all that depends on them, by Torch-Pruning
unstructured   set single weights to zero
pruning        what is removed, whether it can be, and in which steps
pruned_run     from a run to its pruned network in a file, and the configuration that fine-tunes it
quantise       from a run to a file with 8-bit convolutions for ONNX Runtime, compared and described
quantise_clips, quantise_onnx   the clips that set ranges of values; the graph of the file
"""
