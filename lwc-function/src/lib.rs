//! The function ABI.
