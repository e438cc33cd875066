"""What applications do, with a real client, in both versions where both have it.

The questions are those that other brokers' and Eclipse Paho's suites ask of a server; the daemon
has the settings that it is shipped with.
"""
