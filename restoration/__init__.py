"""A photo in, a restoration out."""
