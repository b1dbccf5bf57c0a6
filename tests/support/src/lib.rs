//! What the end-to-end tests share: environments, registries with faults, hostile tars.
