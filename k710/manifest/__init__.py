"""Rows -> manifest, dropped, leakage; and the fate of one id."""
