"""How long a test waits for what has to come.

What comes late on a busy machine or a slow disk is no fault, so a wait is bounded only to end a test that waits in
vain. A test of how fast something is says its own time.
"""

WAIT_S = 120.0
