"""Designs that are wrong on purpose: each must be seen failing, or the experiment beside it proves nothing."""
