//! Defender alerts of one NHS trust, carried from the central tenant to the
//! trust's own workspace.
//!
//! One run, as [`pipeline`] reads:
//!
//! ```text
//! window -> fetch -> scope -> shape -> batch -> deliver -> checkpoint -> heartbeat
//! domain    source   domain   domain   domain   sink       store         sink
//! ```
//!
//! Dependencies point one way, and `tests/it/layers.rs` checks it. `domain`
//! decides and imports nothing else. `http` knows no service; `azure` knows
//! `http` and `clock`; `source`, `sink`, `store` and `identity` know `domain`,
//! `azure` and `http`. `pipeline` puts them in order; `host` and `portal`
//! translate for the outside; `doctor` asks everything once and judges by the
//! same rules as a run; `app` composes; `cli` prints. `sandbox` is named
//! by `demo` alone.

pub mod app;
pub mod azure;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod durable;
pub mod error_chain;
pub mod host;
pub mod http;
pub mod identity;
pub mod pipeline;
pub mod portal;
pub mod program;
pub mod sandbox;
pub mod sink;
pub mod source;
pub mod store;
pub mod telemetry;
