"""The contract of an artifact: stored in checkpoints, ONNX metadata and engine sidecars, and the
digests that cover it.

contract.py   the contract and its JSON sealing.py    digests over contracts, weights, ONNX files
and sidecars probing.py    reading the contract of any artifact without loading its network
shipped.py    finding weights: a path, a run folder or a recognizer that ships with the package
"""
