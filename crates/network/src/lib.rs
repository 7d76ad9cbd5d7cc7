//! The pod network
