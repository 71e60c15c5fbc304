"""The engines of this server: what is known of each, and who owns the live one."""
