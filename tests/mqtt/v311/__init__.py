"""The tests of MQTT 3.1.1, a file for each section; each is named after its statement."""
