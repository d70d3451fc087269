"""The process and its machine: launch, signals, exit codes, files.

In reading order: `cli` (exit codes of the tools), `launch` (ranks of a run), `signals`, `failures` (torch's errors of
lost processes), `machine` (CPUs and memory), `code_hash`, `environment` (versions, the only one to import torch),
`files` and `tables` (writing), `slurm` (job arrays).
"""
