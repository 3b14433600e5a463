//! One test binary; one module per promise the product makes.
// Lints then take what tests share for tests as well.
#![cfg(test)]

mod credentials;
mod drift;
mod durable;
mod handler;
mod host;
mod layers;
mod sign_in;
mod sign_in_refusals;
mod sign_in_secrets;
mod sink_clouds;
mod sinks;
mod source;
mod stopping;
mod store;
