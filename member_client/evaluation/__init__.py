"""Would the patterns find a campaign that nobody tuned them to? Real prompts replayed as a simulated lab's traffic.

`gather` and `build` make the log of a lab from files of prompts, and the truth apart from it. Patterns then run over
the log as they would at any lab, and only the result is compared with the truth.
docs/evaluation.md says what the simulated lab is like, why, and what it cannot tell.
"""
