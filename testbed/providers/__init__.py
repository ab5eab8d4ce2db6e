"""Stand-ins for parties outside the cluster, good enough that the runtime can't tell."""
