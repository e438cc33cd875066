"""`broker.profile = "aws-iot"`: each limit of AWS IoT Core at its edge, and each deviation from the
standard, in both versions. What is just within a limit is taken; one more is refused as AWS IoT
Core does it."""
