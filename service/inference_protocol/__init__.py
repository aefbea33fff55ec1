"""The Open Inference Protocol (version 2): its tensors, requests, answers and metadata.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, with the binary
tensor data extension. What is here knows no transport: HTTP and gRPC both speak through it.
"""
