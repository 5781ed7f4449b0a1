"""Knowledge Flow: test-time reasoning beyond one context window. Start with flow.py."""
