"""Playbooks as people work with them: written in YAML, published, looked up, and walked through step by step.

playbook_file   reading a playbook file and saying everything that is wrong with it, line by line
cacao_writing   steps as the CACAO 2.0 document that a playbook's statement carries
outline         steps in the order in which people read them, numbered; a playbook as a file to go on from
library         the templates and starter playbooks that ship with the client
submission      publishing playbooks of our own, their next versions and their withdrawals
running         what has been done of a run, what is to be done now, and what may be recorded next
run_file        a run on disk: one line for everything that happened, each bound to the one before
report          a run as Markdown
"""
