"""What Panelgate costs: round trips, starts, processor time and bytes, each beside something to compare it with.

`make bench` runs all of it; README.md says how to read it. Nothing here passes or fails.
"""
