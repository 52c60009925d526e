"""Prune Playground: build, prune, distil and measure small networks, one JSON file an experiment."""
