"""Tests that 3.1.1 and 5 have in common: the same steps for a statement of each.

A version's own files give them their names, by its numbers: `test_mqtt_4_7_0_1_x = topics.x`. What
is said is made by `mqtt.wire`; a `code` is what version 5 is told.
"""
