"""Evidence: what really happened to each event, and what went wrong. Observes the other rooms; none of them imports it."""
