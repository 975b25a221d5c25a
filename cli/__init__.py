"""The command ``flowdps``."""
