"""Remedies for what was found, each tried on a copy of the user's training beside an untouched one."""
