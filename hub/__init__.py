"""The hub: keeps one append-only, signed log of what the forum's members share, on Postgres, and serves it.

Nobody has to trust it. Members verify every byte they fetch, and all it holds besides the log can be rebuilt
from the log.
"""
