"""The member client: a lab's own copy of the log, verified, and everything people do with it.

home, keystore          one folder a lab or admin: settings, keys, store, evidence
hub_connection          signed, bounded HTTP to a hub that nobody has to trust
sync/                   following the log and keeping what was verified
publishing              signing statements, submitting them, holding the hub to its receipts
forum/                  membership statements: drafting, explaining in plain words, signing
patterns/               writing, testing and starting from patterns
proving, proof_reading  showing an outsider who said what
gossip                  comparing checkpoints with other labs
detection/              running the patterns in force over a lab's own request logs
named_files             files that a user names on the command line
markdown_text           other people's text in documents of ours
sqlite_transaction      one transaction of a file of the home
cli/                    the `stillwatch` command, one file a command group
"""
