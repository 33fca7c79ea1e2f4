"""What an artifact says about itself: the contract in checkpoints, ONNX metadata and engine
sidecars.
"""
