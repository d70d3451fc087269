"""Survey a data set and make small copies of its videos, for tools/prepare.py.

survey   lists, counts, traits of the files, duplicates
copies   re-encoded copies, resumable and in shards, with a ledger of each
"""
