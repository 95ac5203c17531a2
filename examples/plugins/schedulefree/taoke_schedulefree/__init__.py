"""AdamW without a schedule, as an updater: a plugin for taoke."""
