"""Ablation tables: from their specification to their page.

spec        a table: base configuration, rows, assertions (configs/ablations/*.yaml)
plan        its cells: one configuration for each row and seed, with a key that the result depends on
costs       what cells cost, counted and forecast
cells       a cell's folder, command, state and code hash
executors   run cells in forked children (of fork_server) or on SLURM
sweep       compute what is missing
collect     results of cells -> rows
significance  estimates with their error over seeds and groups of test videos
assertions  judge the claims of a table
columns, tables, exports, plots    write a table
published   numbers from papers beside ours
provenance    command, commit, day, machine and code of cells
docs, index_page, changes    the committed pages of tables
quotes      what pages say they measured
results_page, claims_page    all numbers, and all claims that the project began with
null_rows, null_check    how often the rule is wrong on equal rows
commands    what tools/ablate.py does
"""
