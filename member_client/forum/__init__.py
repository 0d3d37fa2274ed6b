"""Membership from the people's side: cards and requests, proposals, and plain words for what one signs."""
