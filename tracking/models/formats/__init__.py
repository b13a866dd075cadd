"""File formats of MXNet and ONNX, read and written without either."""
