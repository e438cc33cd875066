"""What the tests of both versions of MQTT are written with."""
