"""What a newcomer needs to see SealAgent work: a seal picture, documents, a test CA and a preview of the result.

Run from the checkout (``make demo``); nothing here is part of the product.
"""
