"""A complete world for testers on loopback: authorities, tokens, seals in every state, services, an agent. TEST ONLY.

See README.md.
"""
