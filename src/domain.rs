//! Decisions. No sockets, no clock, no environment, nothing to wait for.

pub mod alert;
pub mod batch;
pub mod heartbeat;
pub mod ledger;
pub mod scope;
pub mod session;
pub mod sign_in;
pub mod standing;
pub mod timestamp;
pub mod window;
