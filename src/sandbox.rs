//! The embedded clouds: what `demo` runs on and what the tests run against.
//!
//! Each is a small HTTP server on loopback that checks signatures, limits and
//! filters as strictly as the real service is documented to, and misbehaves
//! when told to. Nothing in production names this module but `demo`.

pub mod alerts;
pub mod clouds;
mod collector;
pub mod defender;
mod device_login;
pub mod entra;
pub mod event_hub;
pub mod graph;
mod graph_sample;
mod listing;
pub mod managed_identity;
pub mod manners;
pub mod monitor;
pub mod odata;
mod page;
pub mod resource_graph;
pub mod sample;
pub mod script;
pub mod tokens;
pub mod workspace;
