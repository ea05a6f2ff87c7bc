"""Batches: a list of documents or digests that the holder agrees to once, and of which exactly those are signed.

They belong to the signing layer: a batch is an authorization (:class:`sealagent.signing.authorize.Approval`) that the
guard asks beside the driver call, and a way of calling the line again and again. Nothing outside of it needs them
below the API, so they are a package within it rather than a sibling, which could not import the line.
"""
