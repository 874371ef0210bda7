"""What every floor above stands on: errors, statistics, memory, threads, processes, files."""
