"""Fast CPU inference for recurrent networks."""
