"""Following prompted objects through a stream of frames, as masks."""
