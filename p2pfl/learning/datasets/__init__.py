"""Data kinds a site can register; one file per kind. Nothing here imports torch."""
