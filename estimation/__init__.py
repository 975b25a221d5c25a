"""Find out from a photo how it was degraded: its noise, its blur, its compression."""
