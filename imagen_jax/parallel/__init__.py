"""Devices: the mesh, where each array lives on it, host batches to global arrays.

`mesh.make_mesh` builds the mesh from a config line, `sharding` places parameters by an
ordered table of rules and turns each host's rows of a batch into one global array;
`checksums.tree_checksums` tells whether arrays are the same bits, on whatever mesh.
"""
