"""Readers of ScanNet v2: its own scans, and the layout that OpenScene distributes."""
