//! One test binary; one module per promise the product makes.
// Lints then take what tests share for tests as well.
#![cfg(test)]

mod crash;
mod credentials;
mod drift;
mod handler;
mod host;
mod layers;
mod process;
mod sign_in;
mod sign_in_refusals;
mod sign_in_secrets;
mod sink_clouds;
mod sinks;
mod source;
mod source_refusals;
mod stopping;
mod store;
