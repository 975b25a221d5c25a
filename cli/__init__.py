"""The command line program ``flowdps``."""
