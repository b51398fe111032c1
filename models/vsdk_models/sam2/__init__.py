"""SAM-2 and EdgeTAM: loading of checkpoints, and their networks written for export."""
