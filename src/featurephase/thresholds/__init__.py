"""Thresholds in delta = n/d: what any first-order method needs, and what this network needs."""
