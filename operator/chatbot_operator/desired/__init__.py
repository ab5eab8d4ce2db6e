"""Pure rendering: spec, targets and facts become manifests; one module a component, no I/O, no clock."""
