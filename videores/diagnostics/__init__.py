"""Look at data, networks and the machine before and beside a run.

doctor       what is wrong on this machine: decoders, gradients, memory, disk
browse       sheets and videos of what the network sees
lr_finder    a learning-rate range test
complexity   parameters, GMACs, memory and latency as a table
"""
