//! A cluster for tests
