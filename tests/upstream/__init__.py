"""The sender over real sockets, against servers that are slow, broken or hostile."""
