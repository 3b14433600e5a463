//! One test binary; one module per promise the product makes.
// Lints then take what tests share for tests as well.
#![cfg(test)]

mod audits;
mod backfill;
mod clocks;
mod crash;
mod credentials;
mod delivery;
mod demo;
mod doctor;
mod drift;
mod durable;
mod export;
mod faults;
mod few_calls;
mod files;
mod fleet;
mod graph;
mod guard;
mod handler;
mod heartbeats;
mod host;
mod in_process;
mod layers;
mod portal;
mod process;
mod proxy;
mod records;
mod replay;
mod secrets;
mod sign_in;
mod sign_in_refusals;
mod sign_in_secrets;
mod sink_clouds;
mod sinks;
mod source;
mod source_graph;
mod source_refusals;
mod source_world;
mod stopping;
mod store;
mod targets;
mod traces;
mod two_instances;
mod usage;
mod world;
