"""Figures that could have come out otherwise: ratios of contestants in one run, since machines differ and are shared."""
