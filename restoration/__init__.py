"""Restoration of photos, from image to image."""
