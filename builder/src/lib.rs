//! Builds an image from a Dockerfile: resolve, plan, solve, export.
