"""Survey a data set and make small copies of its videos, for tools/prepare.py.

survey   lists, counts, traits of the files, duplicates
pack     tar files with an index of their bytes
copies   re-encoded copies, resumable and in shards, with a ledger of each
"""
