//! Decisions. No sockets, no clock, no environment, nothing to wait for.

pub mod advice;
pub mod alert;
pub mod audit;
pub mod batch;
pub mod budget;
pub mod chain;
pub mod checkpoint;
pub mod finding;
pub mod hash;
pub mod heartbeat;
pub mod ledger;
pub mod lines;
pub mod members;
pub mod pace;
pub mod progress;
pub mod reached;
pub mod record;
pub mod retirement;
pub mod runs;
pub mod scope;
pub mod session;
pub mod shape;
pub mod sign_in;
pub mod standing;
pub mod timestamp;
pub mod window;
