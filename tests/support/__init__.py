"""What tests share: real servers with faults on demand, and clients."""
