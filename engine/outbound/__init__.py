"""Flow 2, outbound. Did this order make it?

The row is committed before the request leaves; a request leaves once; whatever came of it is accepted, refused with
proof, or in doubt until the broker's own evidence settles it. Entries pass a gate that is read again at the send;
exits have a road of their own that no gate stands on.
"""
