//! Light-weight contexts.
