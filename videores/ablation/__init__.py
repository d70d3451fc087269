"""Ablation tables: from their specification to their page.

spec        a table: base configuration, rows, assertions (configs/ablations/*.yaml)
plan        its cells: one configuration for each row and seed, with a key that the result depends on
costs       what cells cost, counted and forecast
cells       a cell's folder, command, state and code hash
executors   run cells in forked children (of fork_server) or on SLURM
sweep       compute what is missing
collect     results of cells -> rows
assertions  judge the claims of a table
columns, tables, plots    write a table
published   numbers from papers beside ours
docs        the committed pages
commands    what tools/ablate.py does
"""
