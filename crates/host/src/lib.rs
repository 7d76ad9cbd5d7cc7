//! Everything that touches the Linux kernel
