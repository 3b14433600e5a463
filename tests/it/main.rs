//! One test binary; one module per promise the product makes.
