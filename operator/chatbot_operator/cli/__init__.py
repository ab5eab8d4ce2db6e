"""Commands for people and for the chart's hooks."""
