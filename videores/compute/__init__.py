"""Compute settings and costs.

precision        dtype and memory layout of a device, by rule
cost             parameters, GMACs, activations, memory by counting; latency by measuring
gradient_check   gradients of layers in a fast setting against float64
autotune         the fastest setting with right gradients, by measuring
"""
