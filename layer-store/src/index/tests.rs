//! Indexes against trees of the same tars, both mounted; the bytes of an index; damaged ones.

mod bytes;
mod contract;
mod damage;
mod random;
mod shown;

#[expect(dead_code, reason = "the store's tests use all of it")]
#[path = "../../tests/store/place.rs"]
mod place;
#[expect(dead_code, reason = "the store's tests use all of it")]
#[path = "../../tests/store/tar.rs"]
mod tar;
