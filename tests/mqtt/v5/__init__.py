"""The tests of MQTT 5, laid out like those of 3.1.1 in `v311/`; see `statements-v5.txt`."""
