"""Access revocation: from approved decisions to accounts whose access ends, through the lab's own hook, and back.

`planning` lists the accounts and changes nothing. `running` goes through a plan: before each account it asks
`authority` anew whether the decision is in effect, blocks, is approved and is not overridden by the allow-list, notes
in `journal` that it begins, calls the hook, and notes what came of it. So it can be stopped, or killed, at any moment
and go on.
"""
