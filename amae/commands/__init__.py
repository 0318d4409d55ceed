"""The sub-commands, one module each: its function reads files, calls the method, and writes files."""
