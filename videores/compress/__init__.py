"""Make a trained network smaller: prune it.

structured     remove channels with all that depends on them, by Torch-Pruning
unstructured   set single weights to zero
pruned_run     from a run to its pruned network in a file, and the configuration that fine-tunes it
"""
