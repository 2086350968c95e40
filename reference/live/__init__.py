"""Seeing it: the live board and the still picture, both drawn from one snapshot of a history.

A history enters; what leaves is looked at, never acted on. Observers are imported by none of the rooms they observe.
"""
