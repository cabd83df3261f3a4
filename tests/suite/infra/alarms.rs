//! The alarms' patterns, tried on lines that the function really writes.
