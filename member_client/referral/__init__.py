"""Referral packages: one file by which a lab shows an authority what several labs saw, and what proves it.

`building` makes it from the verified log, `verifying` checks it with the forum's fingerprint and nothing else. Nothing
here sends anything: whether, what and to whom is each lab's own decision.
"""
