"""Layers whose implementation depends on the device, the number format or the library."""
