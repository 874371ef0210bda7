"""What the exit codes mean (the page on the command line has the table)."""

#: All that was asked exists.
OK = 0
#: Anything else: a full disk, a dead worker, a defect.
DEFECT = 1
#: Something given is not acceptable: nothing was computed.
INPUT = 2
#: Something asked for does not exist or was not reached; its status says why.
MISSING = 3
#: Ctrl-C or a termination; what was finished is kept.
INTERRUPTED = 130
