//! One test binary; one module per promise the product makes.
// Lints then take what tests share for tests as well.
#![cfg(test)]

mod credentials;
mod sink_clouds;
mod sinks;
