"""What is beyond the bridge in its tests: a faulty network, and brokers that do what they are told."""
