"""The only sender of Panelgate, and the rules for where it may send.

``sender`` says how certain a failure is, ``wire`` does the I/O under one deadline, ``address`` holds the rules against
requests into networks that are nobody's panel. What a provider's reply means is not known here: see ``panels``.
"""

from chalicelib.upstream.address import check_url
from chalicelib.upstream.sender import Sender

__all__ = ["Sender", "check_url"]
