//! Parses Dockerfiles: text becomes an AST with spans and every diagnostic.
