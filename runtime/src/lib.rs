//! Runs one process in an isolated container on a given root filesystem.
