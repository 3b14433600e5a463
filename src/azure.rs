//! Azure mechanics that belong to no one service: tokens and signatures.

pub mod credential;
pub mod shared_key;
