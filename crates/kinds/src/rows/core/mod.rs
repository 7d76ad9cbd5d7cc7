//! The core group.

mod config_map;
