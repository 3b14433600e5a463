//! One test binary; one module per promise the product makes.
// Lints then take what tests share for tests as well.
#![cfg(test)]

mod handler;
mod host;
mod layers;
mod stopping;
mod store;

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken set-up should fail the test")]

mod sign_in;
mod sign_in_refusals;
mod sign_in_secrets;
mod sinks;
