//! Signing in as the trust's own account, and staying signed in.
