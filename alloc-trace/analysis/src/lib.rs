//! Recordings in, plain data out: the analyses behind the alloc-trace command.
