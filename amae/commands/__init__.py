"""What each sub-command does, one function for each: reads its files, calls the method, writes its files."""
