"""Agents that act with a world-action model, and what it takes to say how well they play."""
