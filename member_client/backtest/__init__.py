"""What a pattern would have found in a lab's own history. Nothing of it leaves the lab but what an analyst publishes.

backtesting   the run: the pattern beside those in force, over the same requests, by the engine that `detect` uses
history       what the requests were and what the pattern matched, counted
legitimate    accounts that the lab knows as legitimate: the sample for the false-positive rate
measured      what of it a pattern file says
chart         matches by day as a picture
"""
