"""The life of a pattern at this lab: how far it may go, by the lab's own policy."""
