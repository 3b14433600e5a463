//! Log levels and outputs.
