"""Tokens behind SKF libraries (GM/T 0016, GB/T 35291), through ctypes."""
