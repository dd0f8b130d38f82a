"""The second engine: graphs of the networks, made here and run by ONNX Runtime. Nothing here imports torch."""
