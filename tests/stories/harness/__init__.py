"""What the stories are told with: real programs, started, watched and stopped.

Nothing here sleeps to let something happen. Whoever waits says what for, and until when.
"""
