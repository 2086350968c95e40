"""One way to solve each exercise. Try first: three hints stand beside each."""
