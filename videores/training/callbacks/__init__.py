"""Lightning callbacks: what a training does beside its steps.

Recipe: weight_averaging, precise_bn, early_stopping. Records: metrics_log, with throughput, watch and loggers, and
progress. Safety: nan_guard, rank_check. Stopping and resuming: checkpointing, exchange, inexact_resume. autotune.
"""
