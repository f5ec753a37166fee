"""Worlds: one folder each, and beside them what several share (retrieval, browser) and the check of the contract."""
