"""ComfyUI nodes: each is a schema and a few lines that call the library."""
