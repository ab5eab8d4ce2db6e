"""Everything said to Kubernetes: requests, watches, projections, Lease, Events; the only package that imports kubernetes."""
