"""Load weights strictly: every tensor is accounted for, or nothing is loaded.

safe_load       checkpoints, without executing code in them
safetensors     exported networks
names           names of networks and weights, and the files that they stand for
sources         where weights come from
key_maps        names of other libraries -> ours
channel_order   channels of shortcuts that pad on both sides -> ours
keras_graph     the layers of a file of Keras, in words
keras_file      networks that Keras saved
preprocessing   what the weights were trained on
compatibility   differences of networks that shapes do not show
loading         weights of a source into a network
"""
