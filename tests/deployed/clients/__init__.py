"""Programs as resellers have them: written from the example that panels hand out, and from nothing of ours.

Each is told a URL and a key, reads calls as JSON (``[["status", 5], …]``) and prints their results as JSON.
"""
