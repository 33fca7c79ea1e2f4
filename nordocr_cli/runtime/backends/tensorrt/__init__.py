"""TensorRT and TensorRT-RTX: building engines, their files, and running them."""
