"""Following the log: fetch, verify, store, report.

`following.follow` brings the local store up to the hub's newest checkpoint and believes nothing on the way;
`store.Store` is what this member knows; `evidence` keeps what a lying hub showed.
"""
