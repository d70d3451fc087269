"""Training and testing a network with Lightning.

Read `module` (the LightningModule) with `optim`, `losses` and `distillation`; then `trainer` and `callbacks/` for what
runs around each step; `run_folder`, `checkpoint_io` and `resume` for what is kept; and `setup` and `summary` for the
phases of a run before its first step, which videores/run.py puts in order.
"""
