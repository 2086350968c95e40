"""The experiments, a module each: what is broken, who must survive it, and who must not."""
