"""Survey a data set and make small copies of its videos, for tools/prepare.py.

survey      lists, counts, traits of the files, videos with equal frames
duplicates  videos that are copies of others, by hashes over time
alignment   two videos: how one lies in the other, in space and time
pack        tar files with an index of their bytes
copies      re-encoded copies, resumable and in shards, with a ledger of each
"""
