"""The nano tracker: a small promptable video mask tracker in the manner of SAM-2, trained on procedural video."""

from .network import Config, NanoTracker, load_tracker

__all__ = ["Config", "NanoTracker", "load_tracker"]
