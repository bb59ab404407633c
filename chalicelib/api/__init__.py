"""The HTTP face, the only place that knows Chalice: a request becomes a command, a result or refusal a response."""
