//! A distribution-spec client: resolve, pull, push, auth.
