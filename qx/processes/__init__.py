"""Worker processes, seen from the host: jobs, messages, and how a process is started, watched and ended."""
